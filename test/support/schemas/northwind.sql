-- The hard shapes of a trader in food, as Northwind has them: no time that says when a row changed, dates of business only, keys padded
-- with
-- blanks, single-precision prices, pictures, a table that refers to itself, tables that are empty, a table that is nothing but its key.
-- 14 tables to add.
create schema northwind;
set search_path = northwind;

create table categories (category_id smallint primary key, category_name varchar(15) not null, description text, picture bytea);
insert into categories values (1, 'Beverages', 'Soft drinks, coffees', '\x'), (2, 'Condiments', null, null);

create table customer_demographics (customer_type_id bpchar primary key, customer_desc text);
insert into customer_demographics values ('whole', 'Wholesale'), ('retail  ', null);

create table customers (
    customer_id bpchar primary key,
    company_name varchar(40) not null,
    contact_name varchar(30),
    city varchar(15),
    region varchar(15),
    postal_code varchar(10)
);
insert into customers
    values ('ALFKI', 'Alfreds Futterkiste', 'Maria Anders', 'Berlin', null, '12209'),
    ('ANATR', 'Ana Trujillo', null, 'México D.F.', null, '05021');

create table customer_customer_demo (
    customer_id bpchar not null references customers,
    customer_type_id bpchar not null references customer_demographics,
    primary key (customer_id, customer_type_id)
);
insert into customer_customer_demo values ('ALFKI', 'whole'), ('ANATR', 'retail');

create table employees (
    employee_id smallint primary key,
    last_name varchar(20) not null,
    first_name varchar(10) not null,
    birth_date date,
    hire_date date,
    photo bytea,
    notes text,
    reports_to smallint references employees,
    photo_path varchar(255)
);
insert into employees
    values (2, 'Fuller', 'Andrew', '1952-02-19', '1992-08-14', '\x', 'Ph.D.', null, null),
    (1, 'Davolio', 'Nancy', '1948-12-08', '1992-05-01', null, null, 2, 'http://a/b.bmp');

create table suppliers (supplier_id smallint primary key, company_name varchar(40) not null, homepage text);
insert into suppliers values (1, 'Exotic Liquids', null), (2, 'New Orleans', '#CAJUN.HTM#');

create table products (
    product_id smallint primary key,
    product_name varchar(40) not null,
    supplier_id smallint references suppliers,
    category_id smallint references categories,
    unit_price real,
    units_in_stock smallint,
    discontinued int not null
);
insert into products values (1, 'Chai', 1, 1, 18, 39, 0), (2, 'Chang', 2, 1, 0.1, null, 1);

create table region (region_id smallint primary key, region_description bpchar not null);
insert into region values (1, 'Eastern'), (2, 'Western   ');

create table shippers (shipper_id smallint primary key, company_name varchar(40) not null, phone varchar(24));
insert into shippers values (1, 'Speedy Express', '(503) 555-9831'), (2, 'United Package', null);

create table orders (
    order_id smallint primary key,
    customer_id bpchar references customers,
    employee_id smallint references employees,
    order_date date,
    required_date date,
    shipped_date date,
    ship_via smallint references shippers,
    freight real,
    ship_name varchar(40)
);
insert into orders
    values (10248, 'ALFKI', 1, '1996-07-04', '1996-08-01', null, 1, 32.38, 'Vins et alcools'),
    (10249, 'ANATR', 2, '1996-07-05', null, null, 2, 3.4028235e38, '');

create table order_details (
    order_id smallint not null references orders,
    product_id smallint not null references products,
    unit_price real not null,
    quantity smallint not null,
    discount real not null,
    primary key (order_id, product_id)
);
insert into order_details values (10248, 1, 14, 12, 0), (10248, 2, 9.8, 10, 0.15), (10249, 1, 18.6, 9, 'NaN');

create table territories (territory_id varchar(20) primary key, territory_description bpchar not null,
    region_id smallint not null references region);
insert into territories values ('01581', 'Westboro', 1), ('98052', 'Redmond', 2);

create table employee_territories (
    employee_id smallint not null references employees,
    territory_id varchar(20) not null references territories,
    primary key (employee_id, territory_id)
);
insert into employee_territories values (1, '01581'), (2, '98052');

create table us_states (state_id smallint primary key, state_name varchar(100), state_abbr varchar(2), state_region varchar(50));
