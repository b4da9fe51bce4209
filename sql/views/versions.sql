-- tidemark.versions, tidemark.neighbours and tidemark.keys_in_force have an arm for every dimension: a function writes them.
select tidemark._create_versions_view();
