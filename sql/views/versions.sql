-- tidemark.versions, and the views beside it that checks read, have an arm for every dimension: a function writes them.
select tidemark._create_versions_view();
