-- Up Migration
-- A table is captured by polling or from the write-ahead log of its source.

-- Loaders wait for a migration anyway.
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.dimensions add column capture text not null default 'poll'
    constraint capture_is_known check (capture in ('poll', 'log', 'both'));
comment on column tidemark.dimensions.capture is
    'How the source table is read: poll (by watermark), log (from the write-ahead log), or both: the log, with full sweeps as a proof.';

alter table tidemark.dimensions drop constraint deletes_is_known;
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.dimensions add constraint deletes_is_known check (deletes in ('none', 'reconcile', 'soft', 'log'));
comment on column tidemark.dimensions.deletes is 'How deletes at the source are found: none, reconcile, soft or log.';
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.dimensions add constraint the_log_is_in_the_order_of_capture check (capture = 'poll' or change_order = 'capture');
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.dimensions add constraint deletes_are_in_the_log_that_is_read check (deletes <> 'log' or capture <> 'poll');

-- They have grown; the function files make them anew.
drop function if exists tidemark.dimension_mappings();
drop function if exists tidemark.register_dimension(
    text, text, text, regclass, json, text, text, text, boolean, text, text[], text, boolean, boolean
);
