-- Up Migration
-- What somebody did by hand to a dimension is noted: who, when and why. The functions that do it take both, so their old signatures go.

create table tidemark.actions (
    action_id bigint generated always as identity,
    dimension_name text not null,
    action text not null,
    acted_at timestamptz not null,
    acted_by text not null,
    session_role text not null,
    reason text,
    batch_id text,
    changes bigint,
    constraint actions_pkey primary key (action_id),
    constraint action_is_known check (action in ('retry', 'dismiss', 'wait again', 'retract', 'restore', 'pause', 'resume'))
);

create index actions_newest_idx on tidemark.actions (dimension_name, acted_at);

comment on table tidemark.actions is 'What was done to a dimension by hand, each time that it changed something; kept while the dimension is registered.';
comment on column tidemark.actions.action_id is 'Number of the row.';
comment on column tidemark.actions.dimension_name is 'The dimension.';
comment on column tidemark.actions.action is
    'retry or dismiss rejected changes, or let dismissed ones wait again; retract or restore a batch; pause or resume the dimension.';
comment on column tidemark.actions.acted_at is 'When.';
comment on column tidemark.actions.acted_by is 'Who did, as the caller says (p_who); the role of the session where it does not.';
comment on column tidemark.actions.session_role is 'The role of the session, which nobody can say otherwise.';
comment on column tidemark.actions.reason is 'Why, in their words; null where none was given.';
comment on column tidemark.actions.batch_id is 'The batch, where it was about one.';
comment on column tidemark.actions.changes is
    'How many changes were applied (retry), dismissed, let wait, taken out or brought back; null for pause and resume.';

drop function if exists tidemark.retry_rejected(text);
drop function if exists tidemark.dismiss_rejected(text, text, integer, text, text, text);
drop function if exists tidemark.restore_batch(text, text, text);
drop function if exists tidemark.pause_dimension(text, boolean);
