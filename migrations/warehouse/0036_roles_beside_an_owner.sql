-- Up Migration
-- tidemark.grant_statements takes who owns the warehouse, where that is not to change: functions are written anew after migrations.

drop function if exists tidemark.grant_statements(text);
