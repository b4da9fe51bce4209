-- Up Migration
-- The dimension "products": its history table, how to read it, and its mapping from public.products.
-- Written by "tidemark add" from the catalog of the source: read it, edit it, commit it, then run "npx tidemark migrate".

create table public.dim_products_history (
    surrogate_key bigint generated always as identity,
    product_key integer not null,
    title text,
    category text,
    unit_price numeric(10,2),
    attributes jsonb,
    stock integer,
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
    constraint dim_products_history_pkey primary key (surrogate_key),
    constraint dim_products_history_one_version_a_time unique (product_key, valid_from),
    constraint dim_products_history_valid_from_precedes_valid_to check (valid_to > valid_from),
    constraint dim_products_history_current_has_no_end check (is_current = (valid_to is null))
);

create unique index dim_products_history_one_current_version on public.dim_products_history (product_key) where is_current;

comment on table public.dim_products_history is 'Every version of every row of public.products: SCD type 2, written by tidemark.apply_batch only. Products of the demo shop; orders.product_id names them.';
comment on column public.dim_products_history.surrogate_key is 'Identity of the version.';
comment on column public.dim_products_history.product_key is 'Identity of the product.';
comment on column public.dim_products_history.title is 'What the shop calls it.';
comment on column public.dim_products_history.category is 'Where the shop shows it.';
comment on column public.dim_products_history.unit_price is 'Price of one piece now; an order keeps the price it was placed at.';
comment on column public.dim_products_history.attributes is 'What only some products have, such as colour or size.';
comment on column public.dim_products_history.stock is 'Pieces that can be sold now.';
comment on column public.dim_products_history.valid_from is 'First moment at which this version was in force.';
comment on column public.dim_products_history.valid_to is 'First moment at which it no longer was; null while it is.';
comment on column public.dim_products_history.is_current is 'True while the version is in force.';
comment on column public.dim_products_history.cdc_operation is 'INSERT where a life begins, else UPDATE.';
comment on column public.dim_products_history.cdc_timestamp is 'Effective time of the change that opened the version, as the change said.';
comment on column public.dim_products_history.batch_id is 'The batch of that change.';
comment on column public.dim_products_history.created_at is 'When the row was written (UTC).';
comment on column public.dim_products_history.updated_at is 'When the row was last changed (UTC).';
comment on column public.dim_products_history.captured_at is 'Instant of the source snapshot in which the change was read.';
comment on column public.dim_products_history.change_line is 'Line of the change in its batch, from 1.';

create view public.dim_products_current as
select *
from public.dim_products_history
where is_current;

comment on view public.dim_products_current is 'The version in force of every row that exists.';

-- Also writes public.dim_products_history_as_of, for a timestamptz and for a timestamp.
select tidemark.register_dimension(
    p_dimension_name => 'products',
    p_source_schema => 'public',
    p_source_table => 'products',
    p_history_relation => 'public.dim_products_history',
    p_columns => '[
        {"source": "id",           "history": "product_key", "role": "business key"},
        {"source": "title",        "history": "title",       "role": "tracked"},
        {"source": "category",     "history": "category",    "role": "tracked"},
        {"source": "unit_price",   "history": "unit_price",  "role": "tracked"},
        {"source": "attributes",   "history": "attributes",  "role": "tracked"},
        {"source": "stock",        "history": "stock",       "role": "untracked"},
        {"source": "last_updated", "history": "valid_from",  "role": "effective time"},
        {"source": "created_at",   "history": "valid_from",  "role": "insert time"}
    ]'
);
