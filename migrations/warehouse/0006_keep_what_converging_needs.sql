-- Up Migration
-- What history needs to converge in whatever order batches come: first values, the columns each batch had, and the state of a fold.

alter table tidemark.dimensions add column no_overlap boolean not null default false;
comment on column tidemark.dimensions.no_overlap is 'Whether an exclusion constraint of the history table forbids versions that overlap.';

alter table tidemark.dimension_columns add column may_be_missing boolean not null default false;
comment on column tidemark.dimension_columns.may_be_missing is 'True once a batch came without the column, or when it was mapped after batches had been applied.';

alter table tidemark.batches add column columns text [];
comment on column tidemark.batches.columns is 'The source columns its changes had; null where it had no changes but deletes.';

-- Ledger and absorbed changes are short-locked here: loaders wait for a migration anyway.
-- squawk-ignore require-concurrent-index-creation
create index batches_batch_id_idx on tidemark.batches (dimension_name, batch_id);

create table tidemark.first_values (
    dimension_name text not null,
    surrogate_key bigint not null,
    values_before json not null,
    constraint first_values_pkey primary key (dimension_name, surrogate_key),
    constraint first_values_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.first_values is 'What versions said in their untracked columns before an absorbed change overwrote them.';
comment on column tidemark.first_values.dimension_name is 'The dimension.';
comment on column tidemark.first_values.surrogate_key is 'The version.';
comment on column tidemark.first_values.values_before is 'The untracked columns of the change that opened it, by source column.';

-- squawk-ignore require-concurrent-index-deletion
drop index tidemark.absorbed_changes_business_key_idx;
-- squawk-ignore require-concurrent-index-creation
create index absorbed_changes_business_key_idx on tidemark.absorbed_changes (dimension_name, business_key, captured_at);

alter table tidemark.rejected_changes add column business_key text;
alter table tidemark.rejected_changes add column value text;
comment on column tidemark.rejected_changes.business_key is 'Key of the row, as in tidemark.versions; null where it cannot be told.';
comment on column tidemark.rejected_changes.value is 'What the column at fault held, as it came.';

create type tidemark.fold_state as (
    verdict text,
    takes_effect timestamptz,
    in_force boolean,
    begins_life boolean,
    content text [],
    is_known boolean []
);
comment on type tidemark.fold_state is 'Where the fold of a key stands after a change: the verdict on it, and what is in force. See tidemark.fold.';

drop function if exists tidemark._assert_in_order(text, text, text, timestamptz);
drop function if exists tidemark._assert_columns_known(text, text, json, json);
drop function if exists tidemark._apply_in_order(text, text, text, timestamptz, integer, json, json);
drop function if exists tidemark._raise_bad_change(text, text, timestamptz, json, integer);
drop function if exists tidemark._find_fault(text, json, timestamptz);
drop function if exists tidemark.register_dimension(text, text, text, regclass, json, text, text, text);
