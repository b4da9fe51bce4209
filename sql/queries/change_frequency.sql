-- Which orders change most? total_changes counts the versions, the first one included;
-- last_updated is the start of the current version (null once the order was deleted at the source).

select
    history.order_key,
    count(*) as total_changes,
    min(history.valid_from) as first_seen,
    max(history.valid_from) filter (where history.is_current) as last_updated
from public.dim_orders_history as history
group by history.order_key
order by total_changes desc, history.order_key;
