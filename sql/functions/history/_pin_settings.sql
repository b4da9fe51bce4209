create or replace function tidemark._pin_settings(
    p_function regprocedure
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes a function run with the settings that decide how values print and are read, whatever the session, its role or its database
-- has set: the same that Tidemark's own sessions have. migrate does it to every public function, after each definition; private ones
-- run within those. An immutable function depends on no setting.
-- Safe to repeat.
begin
    execute format(
        'alter function %s'
        ' set timezone = ''UTC'' set datestyle = ''ISO, MDY'' set intervalstyle = ''postgres'' set extra_float_digits = 1'
        ' set bytea_output = ''hex'' set lc_monetary = ''C'' set array_nulls = on set xmloption = ''content'''
        ' set standard_conforming_strings = on set quote_all_identifiers = off',
        p_function
    );
end;
$$;

revoke execute on function tidemark._pin_settings (regprocedure) from public;
