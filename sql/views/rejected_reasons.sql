-- Why changes were rejected, for those who may not read values of masked columns: a reason may quote one.
create or replace view tidemark.rejected_reasons as
select r.dimension_name, r.shard, r.batch_id, r.change_line, r.column_name,
    case
        when exists (
            select
            from tidemark.dimension_columns as c
            where c.dimension_name = r.dimension_name and c.masked_at is not null
                and (r.column_name is null or r.column_name in (c.source_column, c.history_column))
        ) then '•••'
        else r.reason
    end as reason
from tidemark.rejected_changes as r;

comment on view tidemark.rejected_reasons is 'Why changes were rejected; masked where the reason may quote a value of a masked column.';
comment on column tidemark.rejected_reasons.dimension_name is 'The dimension.';
comment on column tidemark.rejected_reasons.shard is 'Shard of the batch.';
comment on column tidemark.rejected_reasons.batch_id is 'The batch that brought the change.';
comment on column tidemark.rejected_reasons.change_line is 'Its line in that batch, from 1.';
comment on column tidemark.rejected_reasons.column_name is 'The column at fault, where it is one column.';
comment on column tidemark.rejected_reasons.reason is 'Why it could not be applied, in the words of the error; ••• where that may quote a masked value.';
