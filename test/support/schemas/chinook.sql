-- The hard shapes of a music shop, as Chinook has them: names in capitals that must be quoted, times that belong to the business and not
-- to the row, a table of two keys and nothing else. 11 tables to add.
create schema "Chinook";
set search_path = "Chinook";

create table "Artist" ("ArtistId" int primary key, "Name" varchar(120));
insert into "Artist" values (1, 'AC/DC'), (2, 'Mötley Crüe');

create table "Album" ("AlbumId" int primary key, "Title" varchar(160) not null, "ArtistId" int not null references "Artist");
insert into "Album" values (1, 'For Those About To Rock', 1), (2, '"Girls", Girls', 2);

create table "Employee" (
    "EmployeeId" int primary key,
    "LastName" varchar(20) not null,
    "FirstName" varchar(20) not null,
    "ReportsTo" int references "Employee",
    "BirthDate" timestamp,
    "HireDate" timestamp,
    "Email" varchar(60)
);
insert into "Employee"
    values (1, 'Adams', 'Andrew', null, '1962-02-18', '2002-08-14', 'andrew@example.com'), (2, 'Edwards', 'Nancy', 1, null, null, null);

create table "Customer" (
    "CustomerId" int primary key,
    "FirstName" varchar(40) not null,
    "LastName" varchar(20) not null,
    "Country" varchar(40),
    "SupportRepId" int references "Employee"
);
insert into "Customer" values (1, 'Luís', 'Gonçalves', 'Brazil', 2), (2, 'Leonie', 'Köhler', null, null);

create table "Genre" ("GenreId" int primary key, "Name" varchar(120));
insert into "Genre" values (1, 'Rock'), (2, null);

create table "MediaType" ("MediaTypeId" int primary key, "Name" varchar(120));
insert into "MediaType" values (1, 'MPEG audio file'), (2, 'AAC');

create table "Track" (
    "TrackId" int primary key,
    "Name" varchar(200) not null,
    "AlbumId" int references "Album",
    "MediaTypeId" int not null references "MediaType",
    "GenreId" int references "Genre",
    "Composer" varchar(220),
    "Milliseconds" int not null,
    "Bytes" int,
    "UnitPrice" numeric(10, 2) not null
);
insert into "Track"
    values (1, 'For Those About To Rock', 1, 1, 1, 'Angus Young', 343719, 11170334, 0.99),
    (2, 'Wild Side', 2, 2, null, null, 1, null, 1.99);

create table "Invoice" (
    "InvoiceId" int primary key,
    "CustomerId" int not null references "Customer",
    "InvoiceDate" timestamp not null,
    "BillingCity" varchar(40),
    "Total" numeric(10, 2) not null
);
insert into "Invoice" values (1, 1, '2021-01-01', 'Stuttgart', 1.98), (2, 2, '2021-01-02', null, 3.96);

create table "InvoiceLine" (
    "InvoiceLineId" int primary key,
    "InvoiceId" int not null references "Invoice",
    "TrackId" int not null references "Track",
    "UnitPrice" numeric(10, 2) not null,
    "Quantity" int not null
);
insert into "InvoiceLine" values (1, 1, 1, 0.99, 1), (2, 2, 2, 1.99, 2);

create table "Playlist" ("PlaylistId" int primary key, "Name" varchar(120));
insert into "Playlist" values (1, 'Music'), (2, 'Grunge');

create table "PlaylistTrack" (
    "PlaylistId" int not null references "Playlist",
    "TrackId" int not null references "Track",
    primary key ("PlaylistId", "TrackId")
);
insert into "PlaylistTrack" values (1, 1), (1, 2), (2, 2);
