-- Up Migration
-- The dimension "customers": its history table, how to read it, and its mapping from public.customers.
-- Written by "tidemark add" from the catalog of the source: read it, edit it, commit it, then run "npx tidemark migrate".

create table public.dim_customers_history (
    surrogate_key bigint generated always as identity,
    customer_key integer not null,
    full_name text,
    email text,
    city text,
    loyalty_tier text,
    valid_from timestamptz not null,
    valid_to timestamptz,
    is_current boolean not null default true,
    cdc_operation varchar(10) not null,
    cdc_timestamp timestamptz not null,
    batch_id varchar(100) not null,
    created_at timestamp not null default current_timestamp,
    updated_at timestamp not null default current_timestamp,
    captured_at timestamptz not null,
    change_line integer not null,
    constraint dim_customers_history_pkey primary key (surrogate_key),
    constraint dim_customers_history_one_version_a_time unique (customer_key, valid_from),
    constraint dim_customers_history_valid_from_precedes_valid_to check (valid_to > valid_from),
    constraint dim_customers_history_current_has_no_end check (is_current = (valid_to is null))
);

create unique index dim_customers_history_one_current_version on public.dim_customers_history (customer_key) where is_current;

comment on table public.dim_customers_history is 'Every version of every row of public.customers: SCD type 2, written by tidemark.apply_batch only. Customers of the demo shop; orders.customer_id names them.';
comment on column public.dim_customers_history.surrogate_key is 'Identity of the version.';
comment on column public.dim_customers_history.customer_key is 'Identity of the customer.';
comment on column public.dim_customers_history.full_name is 'Name of the customer.';
comment on column public.dim_customers_history.email is 'Where mail reaches the customer.';
comment on column public.dim_customers_history.city is 'Where the customer lives; null where nobody asked.';
comment on column public.dim_customers_history.loyalty_tier is 'basic, silver or gold.';
comment on column public.dim_customers_history.valid_from is 'First moment at which this version was in force.';
comment on column public.dim_customers_history.valid_to is 'First moment at which it no longer was; null while it is.';
comment on column public.dim_customers_history.is_current is 'True while the version is in force.';
comment on column public.dim_customers_history.cdc_operation is 'INSERT where a life begins, else UPDATE.';
comment on column public.dim_customers_history.cdc_timestamp is 'Effective time of the change that opened the version, as the change said.';
comment on column public.dim_customers_history.batch_id is 'The batch of that change.';
comment on column public.dim_customers_history.created_at is 'When the row was written (UTC).';
comment on column public.dim_customers_history.updated_at is 'When the row was last changed (UTC).';
comment on column public.dim_customers_history.captured_at is 'Instant of the source snapshot in which the change was read.';
comment on column public.dim_customers_history.change_line is 'Line of the change in its batch, from 1.';

create view public.dim_customers_current as
select *
from public.dim_customers_history
where is_current;

comment on view public.dim_customers_current is 'The version in force of every row that exists.';

-- Also writes public.dim_customers_history_as_of, for a timestamptz and for a timestamp.
select tidemark.register_dimension(
    p_dimension_name => 'customers',
    p_source_schema => 'public',
    p_source_table => 'customers',
    p_history_relation => 'public.dim_customers_history',
    p_columns => '[
        {"source": "id",           "history": "customer_key", "role": "business key"},
        {"source": "full_name",    "history": "full_name",    "role": "tracked"},
        {"source": "email",        "history": "email",        "role": "tracked"},
        {"source": "city",         "history": "city",         "role": "tracked"},
        {"source": "loyalty_tier", "history": "loyalty_tier", "role": "tracked"},
        {"source": "updated_at",   "history": "valid_from",   "role": "effective time"},
        {"source": "created_at",   "history": "valid_from",   "role": "insert time"}
    ]'
);
