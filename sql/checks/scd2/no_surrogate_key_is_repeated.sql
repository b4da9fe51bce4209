-- A hit is a version whose surrogate key another version of its history has too: a fact that refers to it would find both. In a history
-- with partitions or shards no constraint forbids it, because one would have to hold the key they are parted by; their sequence gives each
-- number once, and only a row that was written by hand can repeat it. Give one of the two its own: nextval of the sequence that is the
-- column's default.
with unguarded as materialized (
    select array_agg(d.dimension_name) as names
    from tidemark.dimensions as d
    where not exists (
        select
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indrelid and a.attname = 'surrogate_key' and a.attnum = i.indkey[0]
        where i.indrelid = d.history_relation and i.indisunique and i.indisvalid and i.indnkeyatts = 1 and i.indpred is null
    )
),
suspect as (
    select v.dimension_name, v.surrogate_key, v.business_key, v.valid_from,
        count(*) over (partition by v.dimension_name, v.surrogate_key) as versions
    from tidemark.repeated_surrogate_keys as v
    where v.dimension_name = any ((select u.names from unguarded as u)::text[])
)
select s.dimension_name, s.surrogate_key, s.business_key, s.valid_from, s.versions
from suspect as s
where s.versions > 1
order by s.dimension_name, s.surrogate_key, s.business_key, s.valid_from;
