-- Up Migration
-- A table whose rows do not say when they changed is captured all the same; a time may be part of the key.

-- Loaders wait for a migration anyway.
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.dimensions add column effective_time text not null default 'column'
    constraint effective_time_is_known check (effective_time in ('column', 'capture'));
comment on column tidemark.dimensions.effective_time is
    'Where the effective time of a change comes from: column (of the source) or capture (the instant at which the change was read).';

-- What a value means and when it took effect are two mappings of one column.
alter table tidemark.dimension_columns drop constraint a_source_column_has_one_mapping;
-- squawk-ignore require-concurrent-index-creation
create unique index a_source_column_has_one_mapping
on tidemark.dimension_columns (dimension_name, source_column, (column_role in ('effective time', 'insert time')));

-- Its arguments have changed; the function files make it anew.
drop function if exists tidemark.register_dimension(text, text, text, regclass, json, text, text, text, boolean, text, text []);
