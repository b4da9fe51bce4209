-- tidemark.versions, and the views beside it that checks read, have an arm for every dimension: a function writes them.
select tidemark._create_versions_view();

comment on view tidemark.versions is 'Every version of every dimension in one shape; made by tidemark.register_dimension.';
comment on column tidemark.versions.business_key is 'The key as a JSON object, by history column.';
comment on column tidemark.versions.tracked_values is 'The tracked columns as PostgreSQL prints them; equal text is equal content.';
comment on view tidemark.neighbours is
    'Every version beside the versions of its key before and after it; of a distributed history those that a check may object to.';
comment on column tidemark.neighbours.business_key is 'The key as a JSON object, by history column.';
comment on column tidemark.neighbours.equals_previous is 'Whether its tracked columns print as those of the version before.';
comment on view tidemark.keys_in_force is
    'Every key with a version in force, and how many it has; of a distributed history those with more than one.';
comment on column tidemark.keys_in_force.business_key is 'The key as a JSON object, by history column.';
comment on view tidemark.odd_versions is
    'Versions whose end comes before their beginning or is not what their flag says, or whose batch is not in the ledger.';
comment on column tidemark.odd_versions.business_key is 'The key as a JSON object, by history column.';
comment on column tidemark.odd_versions.has_batch is 'Whether its batch is in the ledger.';
comment on view tidemark.version_lines is 'Which lines of each batch are versions, by blocks of 1,024 lines.';
comment on column tidemark.version_lines.block is 'The number of a line without its last ten bits.';
comment on column tidemark.version_lines.versions is 'How many versions are of these lines.';
comment on column tidemark.version_lines.lines is 'Of which of these lines, a bit each.';
comment on view tidemark.repeated_surrogate_keys is
    'Versions among which one has the surrogate key of another: all whose numbers are the same but for the last ten bits.';
comment on column tidemark.repeated_surrogate_keys.business_key is 'The key as a JSON object, by history column.';
