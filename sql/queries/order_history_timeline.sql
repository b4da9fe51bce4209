-- Which states did one order go through, from when until when?
-- It shows order 1; for another order change the number, for all of them leave the where clause out.

select
    history.order_key,
    history.order_status,
    history.valid_from,
    history.valid_to,
    case
        when history.valid_to is null then 'Current'
        else concat('Expired: ', history.valid_to)
    end as status
from public.dim_orders_history as history
where history.order_key = 1
order by history.order_key, history.valid_from;
