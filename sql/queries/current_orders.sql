-- What state is every order in now, and since when?

select
    history.order_key,
    history.customer_id,
    history.order_status,
    history.valid_from
from public.dim_orders_history as history
where history.is_current
order by history.order_key;
