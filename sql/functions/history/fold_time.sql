create or replace aggregate tidemark.fold_time(
    p_effective timestamptz,
    p_captured timestamptz,
    p_in_force boolean,
    p_start timestamptz
)
(
    sfunc = tidemark._fold_time_step,
    stype = timestamptz
);

comment on aggregate tidemark.fold_time (timestamptz, timestamptz, boolean, timestamptz) is 'The time at which each change of a key takes effect, when its changes are taken in capture order.
Used as a window aggregate over the changes that are not absorbed, partitioned by key, ordered by line:
  effective    the change''s own time
  captured     instant of the snapshot it was read in
  in_force     whether a version is in force before it
  start        valid_from, or else valid_to, of the key''s last stored version; null for a new key';
