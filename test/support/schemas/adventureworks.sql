-- The hard shapes of a company of bicycles, as AdventureWorks has them: several schemas, modifieddate without zone, domains over text and
-- boolean, uuid, xml, composite keys with a date or a time in them, a key that is a text path, a fractional quantity. 17 tables to add.
create schema person;
create schema humanresources;
create schema production;
create schema sales;

create domain public."Name" as varchar(50);
create domain public."Flag" as boolean not null;
create domain public."NameStyle" as boolean not null;
create domain public."OrderNumber" as varchar(25);

create table person.businessentity (
    businessentityid serial primary key,
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now()
);
insert into person.businessentity default values;
insert into person.businessentity default values;
insert into person.businessentity default values;

create table person.person (
    businessentityid int primary key references person.businessentity,
    persontype char(2) not null,
    namestyle public."NameStyle" default false,
    title varchar(8),
    firstname public."Name" not null,
    lastname public."Name" not null,
    emailpromotion int not null default 0,
    additionalcontactinfo xml,
    demographics xml,
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now()
);
insert into person.person (businessentityid, persontype, firstname, lastname, demographics)
values (1, 'EM', 'Ken', 'Sánchez', '<a b="1"><c>ü</c></a>'), (2, 'SC', 'Terri', 'Duffy', null), (3, 'IN', 'Rob', '', '<x/>');

create table person.emailaddress (
    businessentityid int not null references person.person,
    emailaddressid serial,
    emailaddress varchar(50),
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now(),
    primary key (businessentityid, emailaddressid)
);
insert into person.emailaddress (businessentityid, emailaddress) values (1, 'ken0@example.com'), (2, null);

create table person.phonenumbertype (
    phonenumbertypeid serial primary key,
    name public."Name" not null,
    modifieddate timestamp not null default now()
);
insert into person.phonenumbertype (name) values ('Cell'), ('Home');

create table person.personphone (
    businessentityid int not null references person.person,
    phonenumber varchar(25) not null,
    phonenumbertypeid int not null references person.phonenumbertype,
    modifieddate timestamp not null default now(),
    primary key (businessentityid, phonenumber, phonenumbertypeid)
);
insert into person.personphone (businessentityid, phonenumber, phonenumbertypeid)
    values (1, '697-555-0142', 1), (1, ' 1 (11) 500 555', 2), (2, '', 1);

create table person.countryregion (
    countryregioncode varchar(3) primary key,
    name public."Name" not null,
    modifieddate timestamp not null default now()
);
insert into person.countryregion (countryregioncode, name) values ('AD', 'Andorra'), ('CI', 'Côte d''Ivoire');

create table humanresources.department (
    departmentid serial primary key,
    name public."Name" not null,
    groupname public."Name" not null,
    modifieddate timestamp not null default now()
);
insert into humanresources.department (name, groupname) values ('Engineering', 'R & D'), ('Sales', 'Sales and Marketing');

create table humanresources.employee (
    businessentityid int primary key references person.person,
    nationalidnumber varchar(15) not null,
    loginid varchar(256) not null,
    jobtitle varchar(50) not null,
    birthdate date not null,
    maritalstatus char(1) not null,
    hiredate date not null,
    salariedflag public."Flag" default true,
    vacationhours smallint not null default 0,
    currentflag public."Flag" default true,
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now(),
    organizationnode varchar default '/'
);
insert into humanresources.employee (businessentityid, nationalidnumber, loginid, jobtitle, birthdate, maritalstatus, hiredate)
values (1, '295847284', 'adventure-works\ken0', 'CEO', '1969-01-29', 'S', '2009-01-14'),
    (2, '245797967', 'adventure-works\terri0', 'VP', '1971-08-01', 'S', '2008-01-31');

create table humanresources.employeedepartmenthistory (
    businessentityid int not null references humanresources.employee,
    departmentid int not null references humanresources.department,
    shiftid smallint not null,
    startdate date not null,
    enddate date,
    modifieddate timestamp not null default now(),
    primary key (businessentityid, startdate, departmentid, shiftid)
);
insert into humanresources.employeedepartmenthistory (businessentityid, departmentid, shiftid, startdate)
    values (1, 1, 1, '2009-01-14'), (2, 1, 1, '2008-01-31');

create table humanresources.jobcandidate (
    jobcandidateid serial primary key,
    businessentityid int,
    resume xml,
    modifieddate timestamp not null default now()
);
insert into humanresources.jobcandidate (resume) values ('<r>one</r>'), (null);

create table production.product (
    productid serial primary key,
    name public."Name" not null,
    productnumber varchar(25) not null,
    makeflag public."Flag" default true,
    color varchar(15),
    standardcost numeric not null,
    listprice numeric not null,
    size varchar(5),
    weight numeric(8, 2),
    sellstartdate timestamp not null,
    sellenddate timestamp,
    discontinueddate timestamp,
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now()
);
insert into production.product (name, productnumber, standardcost, listprice, weight, sellstartdate)
values ('Adjustable Race', 'AR-5381', 0, 0.0000, null, '2008-04-30'),
    ('HL Road Frame', 'FR-R92B-58', 1059.31000, 1431.5, 2.24, '2008-04-30');

create table production.productcosthistory (
    productid int not null references production.product,
    startdate timestamp not null,
    enddate timestamp,
    standardcost numeric not null,
    modifieddate timestamp not null default now(),
    primary key (productid, startdate)
);
insert into production.productcosthistory (productid, startdate, standardcost)
    values (2, '2011-05-31', 868.6342), (2, '2012-05-30', 1059.31);

create table production.document (
    title varchar(50) not null,
    owner int not null,
    filename varchar(400) not null,
    changenumber int not null default 0,
    status smallint not null,
    documentsummary text,
    document bytea,
    rowguid uuid not null unique default gen_random_uuid(),
    modifieddate timestamp not null default now(),
    documentnode varchar primary key default '/'
);
insert into production.document (title, owner, filename, status, document, documentnode)
    values ('Documents', 1, '', 2, null, '/'), ('Manual', 2, 'm.doc', 2, '\x00ff27', '/1/');

create table production.workorder (
    workorderid serial primary key,
    productid int not null references production.product,
    orderqty int not null,
    scrappedqty smallint not null,
    startdate timestamp not null,
    enddate timestamp,
    duedate timestamp not null,
    modifieddate timestamp not null default now()
);
insert into production.workorder (productid, orderqty, scrappedqty, startdate, duedate)
    values (1, 8, 0, '2011-06-03', '2011-06-14'), (2, 15, 1, '2011-06-03', '2011-06-14');

create table sales.currencyrate (
    currencyrateid serial primary key,
    currencyratedate timestamp not null,
    fromcurrencycode char(3) not null,
    tocurrencycode char(3) not null,
    averagerate numeric not null,
    modifieddate timestamp not null default now()
);
insert into sales.currencyrate (currencyratedate, fromcurrencycode, tocurrencycode, averagerate)
    values ('2011-05-31', 'USD', 'EUR', 0.9830), ('2011-05-31', 'USD', 'JPY', 121.750000);

create table sales.salesorderheader (
    salesorderid serial primary key,
    revisionnumber smallint not null default 0,
    orderdate timestamp not null default now(),
    status smallint not null default 5,
    onlineorderflag public."Flag" default true,
    purchaseordernumber public."OrderNumber",
    subtotal numeric not null default 0,
    totaldue numeric,
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now()
);
insert into sales.salesorderheader (purchaseordernumber, subtotal, totaldue)
    values ('PO522145787', 20565.6206, 23153.2339), (null, 1294.2529, 'NaN');

create table sales.salesorderdetail (
    salesorderid int not null references sales.salesorderheader,
    salesorderdetailid serial,
    orderqty smallint not null,
    productid int not null references production.product,
    unitprice numeric not null,
    unitpricediscount numeric not null default 0.0,
    rowguid uuid not null default gen_random_uuid(),
    modifieddate timestamp not null default now(),
    primary key (salesorderid, salesorderdetailid)
);
insert into sales.salesorderdetail (salesorderid, orderqty, productid, unitprice)
    values (1, 1, 1, 2024.994), (1, 3, 2, 2024.9940), (2, 1, 2, 5.7);

create view humanresources.vemployee as
select e.businessentityid, p.firstname, e.jobtitle
from humanresources.employee as e
join person.person as p using (businessentityid);
