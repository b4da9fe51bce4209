-- A function that is compiled for a dimension and is not what its mapping and history table would be compiled to: one of the four was
-- changed by hand. Loading is refused where it matters. See what changed; if it is meant: select tidemark.compile_dimension('<name>').
select d.dimension_name, b.function_name,
    case
        when p.oid is null then 'is missing'
        when p.prosrc is distinct from b.body then 'differs'
        else 'was compiled for another history table'
    end as fault
from tidemark.dimensions as d
cross join lateral tidemark._compiled_bodies(d.dimension_name, tidemark._column_lists(d.dimension_name)) as b
left join pg_catalog.pg_proc as p on p.oid = to_regprocedure(b.signature)
where p.prosrc is distinct from b.body or d.compiled_from is distinct from tidemark._history_fingerprint(d.dimension_name)
order by d.dimension_name, b.function_name;
