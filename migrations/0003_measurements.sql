-- Every number a trial yielded. Appended, never changed.
create table measurements (
    trial_id bigint not null,
    attempt integer not null,
    -- false: a point of a curve, reported along the way; true: a final value, written by the finish.
    -- Part of the key, since the last point of a curve and the final value share their step but may differ (compression lies between)
    is_final boolean not null,
    metric text not null,
    step bigint not null,
    value double precision not null,
    spread double precision,
    -- no number without saying where it comes from
    evidence text not null,
    source text not null,
    constraint measurements_pkey primary key (trial_id, attempt, is_final, metric, step),
    constraint measurements_trial_fkey foreign key (trial_id) references trials (id) on delete cascade,
    constraint measurements_step_positive check (step >= 0),
    -- NaN sorts above infinity here, so this refuses it too; a result that is not a number is a failure, not a value
    constraint measurements_value_finite check (value > '-infinity' and value < 'infinity'),
    constraint measurements_spread_finite check (spread >= 0 and spread < 'infinity'),
    constraint measurements_evidence_known check (
        evidence in ('measured', 'analytic', 'estimated', 'extrapolated', 'imported')
    )
);

-- Files of a trial. Only their keys: the bytes are in the object store, addressed by their content.
create table artifacts (
    trial_id bigint not null,
    attempt integer not null,
    name text not null,
    sha256 text not null,
    size_bytes bigint not null,
    -- place in the bundle, given by the finish; null for a file the finish did not name
    position integer,
    constraint artifacts_pkey primary key (trial_id, attempt, name),
    constraint artifacts_trial_fkey foreign key (trial_id) references trials (id) on delete cascade,
    constraint artifacts_name_given check (name <> ''),
    constraint artifacts_sha256_form check (sha256 ~ '^[0-9a-f]{64}$'),
    constraint artifacts_size_positive check (size_bytes >= 0)
);

-- whether a file's bytes are still needed when a study goes
create index artifacts_sha256 on artifacts (sha256);

-- Results cannot be rewritten, not even by hand. Rows go only with their whole study: that deletion comes from a
-- foreign key's own trigger, so this one then runs at depth two or more.
create function refuse_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and pg_trigger_depth() > 1 then
        return old;
    end if;
    raise exception '% is append-only; delete the whole study instead', tg_table_name
        using errcode = 'restrict_violation';
end
$$;

create trigger measurements_append_only before update or delete on measurements
    for each row execute function refuse_change();
create trigger measurements_no_truncate before truncate on measurements
    for each statement execute function refuse_change();
create trigger finishes_append_only before update or delete on finishes
    for each row execute function refuse_change();
create trigger finishes_no_truncate before truncate on finishes
    for each statement execute function refuse_change();
