-- The fold of a key: what becomes of each of its changes, when they are taken in their order.
-- Used as a window aggregate, partitioned by key; its result at a change is a tidemark.fold_state:
--   operation, effective, captured   of the change; the instant of its capture in the zone of its effective time
--   content, is_known                its tracked columns as PostgreSQL prints them, and which its batch had; null where all
--   stored_start                     valid_from of the stored version that the slice begins with; null for other changes
create or replace aggregate tidemark.fold(
    p_operation text,
    p_effective timestamptz,
    p_captured timestamptz,
    p_content text [],
    p_is_known boolean [],
    p_stored_start timestamptz
)
(
    sfunc = tidemark._fold_step,
    stype = tidemark.fold_state
);
