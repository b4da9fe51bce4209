-- Up Migration
-- tidemark.browse_columns says which columns are masked, too: functions are written anew after migrations, and one that returns other
-- columns than before cannot be replaced.

drop function if exists tidemark.browse_columns(text);
