-- What the migrations build. `python -m tests.db.schema` writes it; a test compares it.

CREATE FUNCTION public.add_deliveries() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks WHERE state = 'ACTIVE') THEN
        RETURN NULL;
    END IF;
    INSERT INTO deliveries (webhook_id, event_xid, event_no, task_id, url, next_try_at, created_at)
    SELECT w.webhook_id, n.xid, n.id, n.task_id, w.own_url, clock_timestamp(), n.at
      FROM logged n CROSS JOIN LATERAL (
           SELECT webhook_id, events, NULL AS own_url FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND sees_all
           UNION ALL
           SELECT webhook_id, events, NULL FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND NOT sees_all AND owner = n.user_id
           UNION ALL
           SELECT webhook_id, events, NULL FROM webhooks
            WHERE state = 'ACTIVE' AND url IS NOT NULL AND NOT sees_all AND lineage = n.lineage
              AND owner IS DISTINCT FROM n.user_id
           UNION ALL
           SELECT s.webhook_id, s.events, t.webhook FROM tasks t JOIN webhooks s USING (webhook_id)
            WHERE t.task_id = n.task_id AND n.type = 'task.ended' AND s.state = 'ACTIVE') w
     WHERE n.type = ANY (w.events)
     ORDER BY n.xid, n.id;
    RETURN NULL;
END $$;

CREATE FUNCTION public.count_alerts() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('alerts', NEW.level || ' ' || NEW.status, 1);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('alerts', NEW.level || ' ' || OLD.status, -1),
                                          ('alerts', NEW.level || ' ' || NEW.status, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.count_gpus() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.gone_at IS NULL AND (NEW.gone_at IS NOT NULL OR NEW.status <> OLD.status) THEN
        INSERT INTO counter_deltas VALUES ('gpus', OLD.status, -1);
    END IF;
    IF NEW.gone_at IS NULL AND (TG_OP = 'INSERT' OR OLD.gone_at IS NOT NULL OR NEW.status <> OLD.status) THEN
        INSERT INTO counter_deltas VALUES ('gpus', NEW.status, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.count_tasks() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    before text := NEW.task_type || ' ' || OLD.status;
    after text := NEW.task_type || ' ' || NEW.status;
    own_group text := 'user_group:' || length(NEW.user_id) || ':' || NEW.user_id || ' ' || NEW.group_id;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas VALUES ('tasks', after, 1), ('user:' || NEW.user_id, after, 1);
        IF NEW.group_id IS NOT NULL THEN
            INSERT INTO counter_deltas VALUES ('group:' || NEW.group_id, after, 1), (own_group, after, 1);
        END IF;
        RETURN NULL;
    END IF;
    IF NEW.status <> OLD.status THEN
        INSERT INTO counter_deltas VALUES ('tasks', before, -1), ('tasks', after, 1),
                                          ('user:' || NEW.user_id, before, -1), ('user:' || NEW.user_id, after, 1);
        IF NEW.group_id IS NOT NULL THEN
            INSERT INTO counter_deltas VALUES ('group:' || NEW.group_id, before, -1), ('group:' || NEW.group_id, after, 1),
                                              (own_group, before, -1), (own_group, after, 1);
        END IF;
    END IF;
    IF NEW.status <> OLD.status OR NEW.gpu_id IS DISTINCT FROM OLD.gpu_id THEN
        INSERT INTO counter_deltas
        SELECT prefix || gpu_id, key, n
          FROM (VALUES (OLD.gpu_id, before, -1), (NEW.gpu_id, after, 1)) AS moved(gpu_id, key, n)
         CROSS JOIN (VALUES ('gpu:'), ('user_gpu:' || length(NEW.user_id) || ':' || NEW.user_id || ' ')) AS c(prefix)
         WHERE gpu_id IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.event_stamp() RETURNS bigint
    LANGUAGE sql
    AS $$
    SELECT GREATEST(pg_current_xact_id()::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)
$$;

CREATE FUNCTION public.log_alert_events() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO event_log (xid, type, alert_id, data)
    VALUES (event_stamp(),
            CASE WHEN TG_OP = 'INSERT' THEN 'alert.raised' WHEN NEW.status <> OLD.status THEN 'alert.acknowledged'
                 WHEN NEW.resolved_at IS NULL THEN 'alert.raised' ELSE 'alert.resolved' END,
            'alert_' || lpad(NEW.seq::text, GREATEST(3, length(NEW.seq::text)), '0'),
            jsonb_strip_nulls(jsonb_build_object('level', NEW.level, 'title', NEW.title, 'source', NEW.source,
                                                 'acknowledgedBy', NEW.acknowledged_by)));
    RETURN NULL;
END $$;

CREATE FUNCTION public.log_node_events() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    registers boolean := TG_OP = 'INSERT' OR NEW.epoch <> OLD.epoch;
    happened text[] := '{}';
BEGIN
    IF registers THEN
        happened := ARRAY['node.registered'];
    ELSIF NEW.status <> OLD.status THEN
        happened := ARRAY[CASE NEW.status WHEN 'OFFLINE' THEN 'node.offline' WHEN 'FAULTY' THEN 'node.faulty'
                          ELSE CASE OLD.status WHEN 'FAULTY' THEN 'node.recovered' ELSE 'node.online' END END];
    END IF;
    IF NEW.drained_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.drained_at IS NULL) THEN
        happened := happened || 'node.draining'::text;
    END IF;
    IF NEW.gone_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.gone_at IS NULL) THEN
        happened := happened || 'node.gone'::text;
    END IF;
    INSERT INTO event_log (xid, type, gpu_id, data)
    SELECT event_stamp(), type, NEW.gpu_id, jsonb_strip_nulls(jsonb_build_object(
               'status', NEW.status, 'draining', NEW.drained_at IS NOT NULL,
               'reason', left(CASE type WHEN 'node.faulty' THEN NEW.fault_reason
                                        WHEN 'node.draining' THEN NEW.drain_reason END, 500)))
      FROM unnest(happened) WITH ORDINALITY AS h (type, n) ORDER BY n;
    RETURN NULL;
END $$;

CREATE FUNCTION public.log_task_events() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    stamp bigint := event_stamp();
BEGIN
    INSERT INTO event_log (xid, type, at, task_id, gpu_id, user_id, lineage, data)
    SELECT stamp,
           CASE WHEN n.from_status IS NULL THEN 'task.created' WHEN n.to_status = 'PROCESSING' THEN 'task.started'
                WHEN n.to_status = 'QUEUED' THEN 'task.retried' ELSE 'task.ended' END,
           n.at, n.task_id, n.gpu_id, t.user_id, CASE WHEN t.flow IS NULL THEN t.lineage END,
           jsonb_strip_nulls(jsonb_build_object(
               'seq', n.seq, 'status', n.to_status, 'attempt', n.attempt, 'taskType', t.task_type,
               'groupId', t.group_id,
               'endReason', CASE WHEN t.completed_at IS NOT NULL THEN COALESCE(t.end_reason, t.status) END))
      FROM written n JOIN tasks t ON t.task_id = n.task_id
     WHERE n.from_status IS DISTINCT FROM n.to_status
     ORDER BY n.task_id, n.seq;
    RETURN NULL;
END $$;

CREATE FUNCTION public.sum_counters() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM changed WHERE counter NOT LIKE 'sum:%') THEN  -- else it has been fired by itself
        INSERT INTO counters AS c (counter, key, n)
        
    SELECT 'sum:' || counter, split_part(key, ' ', 2), CAST(TG_ARGV[0] AS integer) * sum(n)
      FROM changed WHERE split_part(counter, ':', 1) IN ('tasks', 'user', 'gpu', 'user_gpu', 'group', 'user_group')
     GROUP BY 1, 2 HAVING sum(n) <> 0 ORDER BY 1, 2

            ON CONFLICT (counter, key) DO UPDATE SET n = c.n + excluded.n;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.uncount_alerts() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO counter_deltas SELECT 'alerts', level || ' ' || status, -count(*) FROM gone GROUP BY level, status;
    RETURN NULL;
END $$;

CREATE FUNCTION public.uncount_gpus() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO counter_deltas SELECT 'gpus', status, -count(*) FROM gone WHERE gone_at IS NULL GROUP BY status;
    RETURN NULL;
END $$;

CREATE FUNCTION public.uncount_tasks() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO counter_deltas
    SELECT counter, key, -sum(n)
      FROM (SELECT user_id, gpu_id, group_id, task_type || ' ' || status AS key, count(*) AS n
              FROM gone GROUP BY 1, 2, 3, 4) kinds
     CROSS JOIN LATERAL (
           VALUES ('tasks'), ('user:' || user_id), ('gpu:' || gpu_id),
                  ('user_gpu:' || length(user_id) || ':' || user_id || ' ' || gpu_id), ('group:' || group_id),
                  ('user_group:' || length(user_id) || ':' || user_id || ' ' || group_id)) AS c (counter)
     WHERE counter IS NOT NULL
     GROUP BY counter, key;
    RETURN NULL;
END $$;

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.alerts (
    seq bigint NOT NULL,
    dedupe_key text NOT NULL,
    title text NOT NULL,
    message text NOT NULL,
    level text NOT NULL,
    status text DEFAULT 'ACTIVE'::text NOT NULL,
    source text NOT NULL,
    raised_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    cause text,
    count bigint DEFAULT 1 NOT NULL,
    resolved_at timestamp with time zone,
    CONSTRAINT ck_alerts_acknowledged_whole CHECK ((((acknowledged_at IS NULL) = (acknowledged_by IS NULL)) AND ((acknowledged_at IS NULL) = (status = 'ACTIVE'::text)))),
    CONSTRAINT ck_alerts_level CHECK ((level = ANY (ARRAY['CRITICAL'::text, 'WARNING'::text, 'INFO'::text]))),
    CONSTRAINT ck_alerts_status CHECK ((status = ANY (ARRAY['ACTIVE'::text, 'ACKNOWLEDGED'::text])))
);

ALTER TABLE public.alerts ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.alerts_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.api_keys (
    key_id text NOT NULL,
    key_hash text NOT NULL,
    role text NOT NULL,
    owner text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    lineage text NOT NULL,
    acts_for_others boolean DEFAULT false NOT NULL,
    note text,
    revoked_by text,
    CONSTRAINT ck_api_keys_role CHECK ((role = ANY (ARRAY['admin'::text, 'operator'::text, 'user'::text, 'node'::text])))
);

CREATE TABLE public.attempts (
    task_id text NOT NULL,
    attempt integer NOT NULL,
    gpu_id text NOT NULL,
    gpu_epoch bigint NOT NULL,
    slot integer NOT NULL,
    token text NOT NULL,
    ip text NOT NULL,
    port integer NOT NULL,
    claimed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    accepted_at timestamp with time zone,
    progress smallint,
    progress_at timestamp with time zone,
    closed_at timestamp with time zone,
    outcome text,
    reason text,
    collected_at timestamp with time zone,
    blamed boolean DEFAULT false NOT NULL,
    watched_by text,
    released_at timestamp with time zone,
    CONSTRAINT ck_attempts_closed_with_outcome CHECK (((closed_at IS NULL) = (outcome IS NULL))),
    CONSTRAINT ck_attempts_outcome CHECK ((outcome = ANY (ARRAY['SUCCEEDED'::text, 'FAILED'::text, 'TIMED_OUT'::text, 'REJECTED'::text, 'PROTOCOL_ERROR'::text, 'HANDED_BACK'::text, 'REFUSED'::text, 'UNREACHABLE'::text, 'LOST'::text, 'FAULTY'::text, 'DEREGISTERED'::text, 'DRAINED'::text, 'TASK_ENDED'::text]))),
    CONSTRAINT ck_attempts_progress_percent CHECK (((progress >= 0) AND (progress <= 100)))
);

CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    key_id text,
    owner text NOT NULL,
    role text,
    action text NOT NULL,
    subject text NOT NULL,
    detail text NOT NULL,
    outcome text NOT NULL
);

ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.console_sessions (
    session_hash text NOT NULL,
    key_id text NOT NULL,
    is_link boolean NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE public.counter_deltas (
    counter text NOT NULL,
    key text NOT NULL,
    n bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000');

CREATE TABLE public.counters (
    counter text NOT NULL,
    key text NOT NULL,
    n bigint NOT NULL
);

CREATE TABLE public.deliveries (
    delivery_id bigint NOT NULL,
    webhook_id text NOT NULL,
    event_xid bigint,
    event_no bigint,
    event_id text,
    task_id text,
    url text,
    body bytea,
    state text DEFAULT 'PENDING'::text NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    last_status integer,
    last_error text,
    next_try_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT ck_deliveries_is_due CHECK (((next_try_at IS NOT NULL) = (state = 'PENDING'::text))),
    CONSTRAINT ck_deliveries_state CHECK ((state = ANY (ARRAY['PENDING'::text, 'DELIVERED'::text, 'DEAD'::text])))
);

ALTER TABLE public.deliveries ALTER COLUMN delivery_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.deliveries_delivery_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.event_log (
    xid bigint NOT NULL,
    id bigint NOT NULL,
    type text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    task_id text,
    gpu_id text,
    alert_id text,
    user_id text,
    lineage text,
    data jsonb NOT NULL
);

ALTER TABLE public.event_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.event_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.event_log_state (
    epoch text DEFAULT (gen_random_uuid())::text NOT NULL,
    cut_xid bigint DEFAULT 0 NOT NULL,
    cut_id bigint DEFAULT 0 NOT NULL
);

CREATE TABLE public.first_looks (
    task_id text NOT NULL,
    due_at timestamp with time zone NOT NULL
);

CREATE TABLE public.gpu_beats (
    gpu_id text NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE TABLE public.gpus (
    gpu_id text NOT NULL,
    epoch bigint NOT NULL,
    status text NOT NULL,
    hostname text NOT NULL,
    vast_ins_id text,
    ip text NOT NULL,
    port integer NOT NULL,
    task_types bigint[] NOT NULL,
    priority_queue text NOT NULL,
    version text NOT NULL,
    max_concurrent_tasks integer NOT NULL,
    metadata json NOT NULL,
    dispatch_secret text,
    lineage text,
    failure_count integer DEFAULT 0 NOT NULL,
    task_failure_count integer DEFAULT 0 NOT NULL,
    fault_reason text,
    not_before timestamp with time zone,
    registered_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    status_since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    gone_at timestamp with time zone,
    attended_epoch bigint,
    attended_status text,
    judged_since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    failed_tasks text[] DEFAULT '{}'::text[] NOT NULL,
    failed_flow text,
    rests integer DEFAULT 0 NOT NULL,
    hand_backs integer DEFAULT 0 NOT NULL,
    drained_at timestamp with time zone,
    drained_by text,
    drain_reason text,
    drain_deadline timestamp with time zone,
    CONSTRAINT ck_gpus_has_a_slot CHECK ((max_concurrent_tasks >= 1)),
    CONSTRAINT ck_gpus_priority_queue CHECK ((priority_queue = ANY (ARRAY['NORMAL'::text, 'VIP'::text]))),
    CONSTRAINT ck_gpus_status CHECK ((status = ANY (ARRAY['ACTIVE'::text, 'OFFLINE'::text, 'FAULTY'::text])))
);

CREATE TABLE public.instances (
    instance_id text NOT NULL,
    number bigint NOT NULL,
    kind text NOT NULL,
    hostname text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    last_beat timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cpu_usage double precision DEFAULT 0 NOT NULL,
    memory_usage double precision DEFAULT 0 NOT NULL,
    disk_usage double precision DEFAULT 0 NOT NULL,
    listening_since timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE public.instances ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.instances_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.key_grants (
    lineage text NOT NULL,
    grants json NOT NULL
);

CREATE TABLE public.late_reports (
    id bigint NOT NULL,
    task_id text NOT NULL,
    attempt integer,
    kind text NOT NULL,
    body text NOT NULL,
    received_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE public.late_reports ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.late_reports_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.leader_lease (
    name text NOT NULL,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE public.monitor_reports (
    name text NOT NULL,
    body json NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.operations (
    operation_id text NOT NULL,
    kind text NOT NULL,
    filter jsonb NOT NULL,
    reason text,
    key_id text NOT NULL,
    owner text NOT NULL,
    role text NOT NULL,
    lineage text NOT NULL,
    grants jsonb NOT NULL,
    idempotency_key text,
    request_hash text NOT NULL,
    asked_at timestamp with time zone NOT NULL,
    bound bigint NOT NULL,
    matched bigint NOT NULL,
    done bigint DEFAULT 0 NOT NULL,
    failed bigint DEFAULT 0 NOT NULL,
    cursor bigint DEFAULT 0 NOT NULL,
    state text NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    completed_at timestamp with time zone,
    CONSTRAINT ck_operations_completed_iff_done CHECK (((completed_at IS NOT NULL) = (state = 'DONE'::text))),
    CONSTRAINT ck_operations_kind CHECK ((kind = ANY (ARRAY['CANCEL'::text, 'RETRY'::text]))),
    CONSTRAINT ck_operations_state CHECK ((state = ANY (ARRAY['RUNNING'::text, 'DONE'::text])))
);

CREATE TABLE public.outbox (
    task_id text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.outbox_ends (
    task_id text NOT NULL,
    ended_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.schema_compatibility (
    oldest_program text NOT NULL
);

CREATE TABLE public.schema_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.task_events (
    task_id text NOT NULL,
    seq integer NOT NULL,
    from_status text,
    to_status text NOT NULL,
    attempt integer,
    gpu_id text,
    actor text NOT NULL,
    reason text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.task_results (
    task_id text NOT NULL,
    attempt integer NOT NULL,
    gpu_id text NOT NULL,
    result text NOT NULL,
    received_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.tasks (
    task_id text NOT NULL,
    display_id bigint NOT NULL,
    task_type bigint NOT NULL,
    status text NOT NULL,
    user_id text NOT NULL,
    app text NOT NULL,
    priority bigint NOT NULL,
    env text,
    payload text NOT NULL,
    timeout_ms bigint NOT NULL,
    max_retries integer NOT NULL,
    retry_count integer DEFAULT 0 NOT NULL,
    error_message text,
    gpu_id text,
    estimated_wait_s bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    queue_class smallint NOT NULL,
    queue_rank double precision NOT NULL,
    waiting_since timestamp with time zone,
    failed_on text[] DEFAULT '{}'::text[] NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    event_seq integer DEFAULT 0 NOT NULL,
    engine_started_at timestamp with time zone,
    traceparent text,
    lineage text,
    idempotency_key text,
    request_hash text,
    promoted_at timestamp with time zone,
    flow text,
    barred_on text[] DEFAULT '{}'::text[] NOT NULL,
    end_reason text,
    expires_at timestamp with time zone,
    deadline timestamp with time zone,
    group_id text,
    retry_of text,
    purged_at timestamp with time zone,
    webhook text,
    webhook_id text,
    CONSTRAINT ck_tasks_completed_iff_terminal CHECK (((completed_at IS NOT NULL) = (status = ANY (ARRAY['COMPLETED'::text, 'FAILED'::text, 'TIMEOUT'::text])))),
    CONSTRAINT ck_tasks_ends_as CHECK (((end_reason IS NULL) OR ((status = 'FAILED'::text) AND (end_reason = ANY (ARRAY['REJECTED'::text, 'POISON'::text, 'CANCELLED'::text]))) OR ((status = 'TIMEOUT'::text) AND (end_reason = ANY (ARRAY['EXPIRED'::text, 'DEADLINE'::text]))))),
    CONSTRAINT ck_tasks_starts_after_creation CHECK (((started_at IS NULL) OR (started_at >= created_at))),
    CONSTRAINT ck_tasks_status CHECK ((status = ANY (ARRAY['QUEUED'::text, 'PROCESSING'::text, 'COMPLETED'::text, 'FAILED'::text, 'TIMEOUT'::text]))),
    CONSTRAINT ck_tasks_waits_only_queued CHECK (((waiting_since IS NULL) OR (status = 'QUEUED'::text)))
);

ALTER TABLE public.tasks ALTER COLUMN display_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.tasks_display_id_seq
    START WITH 1001
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.webhook_secrets (
    id bigint NOT NULL,
    webhook_id text NOT NULL,
    secret text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone
);

ALTER TABLE public.webhook_secrets ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.webhook_secrets_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.webhooks (
    webhook_id text NOT NULL,
    owner text NOT NULL,
    lineage text NOT NULL,
    sees_all boolean NOT NULL,
    url text,
    events text[] NOT NULL,
    description text,
    state text DEFAULT 'ACTIVE'::text NOT NULL,
    disabled_because text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    look_after timestamp with time zone,
    CONSTRAINT ck_webhooks_state CHECK ((state = ANY (ARRAY['ACTIVE'::text, 'DISABLED'::text, 'DELETED'::text])))
);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT pk_alerts PRIMARY KEY (seq);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT pk_api_keys PRIMARY KEY (key_id);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT pk_attempts PRIMARY KEY (task_id, attempt);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT pk_audit_log PRIMARY KEY (id);

ALTER TABLE ONLY public.console_sessions
    ADD CONSTRAINT pk_console_sessions PRIMARY KEY (session_hash);

ALTER TABLE ONLY public.counters
    ADD CONSTRAINT pk_counters PRIMARY KEY (counter, key);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT pk_deliveries PRIMARY KEY (delivery_id);

ALTER TABLE ONLY public.event_log
    ADD CONSTRAINT pk_event_log PRIMARY KEY (xid, id);

ALTER TABLE ONLY public.event_log_state
    ADD CONSTRAINT pk_event_log_state PRIMARY KEY (epoch);

ALTER TABLE ONLY public.first_looks
    ADD CONSTRAINT pk_first_looks PRIMARY KEY (task_id);

ALTER TABLE ONLY public.gpu_beats
    ADD CONSTRAINT pk_gpu_beats PRIMARY KEY (gpu_id);

ALTER TABLE ONLY public.gpus
    ADD CONSTRAINT pk_gpus PRIMARY KEY (gpu_id);

ALTER TABLE ONLY public.instances
    ADD CONSTRAINT pk_instances PRIMARY KEY (instance_id);

ALTER TABLE ONLY public.key_grants
    ADD CONSTRAINT pk_key_grants PRIMARY KEY (lineage);

ALTER TABLE ONLY public.late_reports
    ADD CONSTRAINT pk_late_reports PRIMARY KEY (id);

ALTER TABLE ONLY public.leader_lease
    ADD CONSTRAINT pk_leader_lease PRIMARY KEY (name);

ALTER TABLE ONLY public.monitor_reports
    ADD CONSTRAINT pk_monitor_reports PRIMARY KEY (name);

ALTER TABLE ONLY public.operations
    ADD CONSTRAINT pk_operations PRIMARY KEY (operation_id);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT pk_outbox PRIMARY KEY (task_id);

ALTER TABLE ONLY public.outbox_ends
    ADD CONSTRAINT pk_outbox_ends PRIMARY KEY (task_id);

ALTER TABLE ONLY public.schema_compatibility
    ADD CONSTRAINT pk_schema_compatibility PRIMARY KEY (oldest_program);

ALTER TABLE ONLY public.task_events
    ADD CONSTRAINT pk_task_events PRIMARY KEY (task_id, seq);

ALTER TABLE ONLY public.task_results
    ADD CONSTRAINT pk_task_results PRIMARY KEY (task_id);

ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT pk_tasks PRIMARY KEY (task_id);

ALTER TABLE ONLY public.webhook_secrets
    ADD CONSTRAINT pk_webhook_secrets PRIMARY KEY (id);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT pk_webhooks PRIMARY KEY (webhook_id);

ALTER TABLE ONLY public.schema_version
    ADD CONSTRAINT schema_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT uq_alerts_dedupe_key UNIQUE (dedupe_key);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT uq_api_keys_key_hash UNIQUE (key_hash);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT uq_attempts_token UNIQUE (token);

ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT uq_tasks_display_id UNIQUE (display_id);

CREATE INDEX ix_alerts_cause ON public.alerts USING btree (cause, seq);

CREATE INDEX ix_alerts_level ON public.alerts USING btree (level, seq);

CREATE INDEX ix_alerts_raised_at ON public.alerts USING btree (raised_at);

CREATE INDEX ix_alerts_status ON public.alerts USING btree (status, seq);

CREATE INDEX ix_alerts_unresolved ON public.alerts USING btree (cause) WHERE (resolved_at IS NULL);

CREATE INDEX ix_api_keys_lineage ON public.api_keys USING btree (lineage);

CREATE INDEX ix_attempts_compared ON public.attempts USING btree (gpu_id, closed_at) WHERE (outcome = ANY (ARRAY['SUCCEEDED'::text, 'FAILED'::text, 'TIMED_OUT'::text, 'REJECTED'::text, 'PROTOCOL_ERROR'::text]));

CREATE INDEX ix_attempts_ended ON public.attempts USING btree (gpu_id, closed_at) WHERE (outcome = ANY (ARRAY['SUCCEEDED'::text, 'FAILED'::text, 'TIMED_OUT'::text]));

CREATE INDEX ix_attempts_failed ON public.attempts USING btree (closed_at) WHERE (outcome = ANY (ARRAY['FAILED'::text, 'TIMED_OUT'::text, 'REJECTED'::text, 'PROTOCOL_ERROR'::text]));

CREATE INDEX ix_attempts_not_compared ON public.attempts USING btree (gpu_id, closed_at) WHERE (outcome <> ALL (ARRAY['FAILED'::text, 'PROTOCOL_ERROR'::text, 'REJECTED'::text, 'SUCCEEDED'::text, 'TIMED_OUT'::text]));

CREATE INDEX ix_attempts_uncollected ON public.attempts USING btree (closed_at) WHERE ((closed_at IS NOT NULL) AND (collected_at IS NULL));

CREATE INDEX ix_attempts_unconfirmed ON public.attempts USING btree (gpu_id, closed_at) WHERE ((outcome = 'LOST'::text) OR ((outcome = ANY (ARRAY['DEREGISTERED'::text, 'DRAINED'::text, 'FAULTY'::text, 'PROTOCOL_ERROR'::text, 'TASK_ENDED'::text, 'TIMED_OUT'::text, 'UNREACHABLE'::text])) AND ((released_at IS NULL) OR ((released_at - closed_at) >= '00:00:10'::interval))));

CREATE INDEX ix_attempts_unreleased ON public.attempts USING btree (gpu_id) WHERE (released_at IS NULL);

CREATE INDEX ix_audit_log_action ON public.audit_log USING btree (action, id);

CREATE INDEX ix_audit_log_at ON public.audit_log USING btree (at);

CREATE INDEX ix_audit_log_key ON public.audit_log USING btree (key_id, id);

CREATE INDEX ix_audit_log_owner ON public.audit_log USING btree (owner, id);

CREATE INDEX ix_console_sessions_expires_at ON public.console_sessions USING btree (expires_at);

CREATE INDEX ix_deliveries_created_at ON public.deliveries USING btree (created_at);

CREATE INDEX ix_deliveries_due ON public.deliveries USING btree (webhook_id, next_try_at) WHERE (state = 'PENDING'::text);

CREATE INDEX ix_deliveries_task ON public.deliveries USING btree (task_id) WHERE (task_id IS NOT NULL);

CREATE INDEX ix_deliveries_webhook ON public.deliveries USING btree (webhook_id, created_at, delivery_id);

CREATE INDEX ix_event_log_lineage ON public.event_log USING btree (lineage, type, xid, id) WHERE (lineage IS NOT NULL);

CREATE INDEX ix_event_log_task ON public.event_log USING btree (task_id, xid, id) WHERE (task_id IS NOT NULL);

CREATE INDEX ix_event_log_type ON public.event_log USING btree (type, xid, id);

CREATE INDEX ix_event_log_user_id ON public.event_log USING btree (user_id, type, xid, id) WHERE (user_id IS NOT NULL);

CREATE INDEX ix_gpus_draining ON public.gpus USING btree (drain_deadline) WHERE (drained_at IS NOT NULL);

CREATE INDEX ix_gpus_task_types ON public.gpus USING gin (task_types);

CREATE INDEX ix_late_reports_task_id ON public.late_reports USING btree (task_id);

CREATE INDEX ix_operations_ended ON public.operations USING btree (completed_at) WHERE (completed_at IS NOT NULL);

CREATE INDEX ix_operations_running ON public.operations USING btree (updated_at) WHERE (state = 'RUNNING'::text);

CREATE INDEX ix_tasks_aging ON public.tasks USING btree (waiting_since) WHERE ((waiting_since IS NOT NULL) AND (queue_class = 0));

CREATE INDEX ix_tasks_app ON public.tasks USING btree (app, display_id);

CREATE INDEX ix_tasks_created ON public.tasks USING btree (created_at);

CREATE INDEX ix_tasks_deadline ON public.tasks USING btree (deadline) WHERE ((completed_at IS NULL) AND (deadline IS NOT NULL));

CREATE INDEX ix_tasks_durations ON public.tasks USING btree (task_type, completed_at) WHERE (status = 'COMPLETED'::text);

CREATE INDEX ix_tasks_end_reason ON public.tasks USING btree (end_reason, display_id) WHERE (end_reason IS NOT NULL);

CREATE INDEX ix_tasks_ended ON public.tasks USING btree (completed_at) WHERE (completed_at IS NOT NULL);

CREATE INDEX ix_tasks_expiry ON public.tasks USING btree (expires_at) WHERE ((status = 'QUEUED'::text) AND (expires_at IS NOT NULL));

CREATE INDEX ix_tasks_flow ON public.tasks USING btree (task_type, queue_class, app, queue_rank) WHERE ((waiting_since IS NOT NULL) AND (promoted_at IS NULL));

CREATE INDEX ix_tasks_gpu_kind ON public.tasks USING btree (gpu_id, task_type, status, display_id) INCLUDE (user_id);

CREATE INDEX ix_tasks_group ON public.tasks USING btree (group_id, display_id) WHERE (group_id IS NOT NULL);

CREATE INDEX ix_tasks_group_queue ON public.tasks USING btree (group_id, task_type, queue_class DESC, queue_rank) INCLUDE (user_id) WHERE ((group_id IS NOT NULL) AND (waiting_since IS NOT NULL));

CREATE INDEX ix_tasks_idle ON public.tasks USING btree (updated_at) WHERE ((status = 'QUEUED'::text) AND (waiting_since IS NULL));

CREATE INDEX ix_tasks_kind ON public.tasks USING btree (task_type, status, display_id);

CREATE INDEX ix_tasks_not_started ON public.tasks USING btree (created_at) WHERE (engine_started_at IS NULL);

CREATE INDEX ix_tasks_queue ON public.tasks USING btree (task_type, queue_class DESC, queue_rank, display_id) WHERE (waiting_since IS NOT NULL);

CREATE INDEX ix_tasks_share ON public.tasks USING btree (task_type, queue_class, COALESCE(flow, ('app:'::text || app)), queue_rank) WHERE ((waiting_since IS NOT NULL) AND (promoted_at IS NULL));

CREATE INDEX ix_tasks_status ON public.tasks USING btree (status, display_id);

CREATE INDEX ix_tasks_unpurged ON public.tasks USING btree (completed_at) WHERE ((completed_at IS NOT NULL) AND (purged_at IS NULL));

CREATE INDEX ix_tasks_user_kind ON public.tasks USING btree (user_id, task_type, status, display_id) INCLUDE (gpu_id);

CREATE INDEX ix_webhook_secrets_webhook_id ON public.webhook_secrets USING btree (webhook_id);

CREATE INDEX ix_webhooks_all ON public.webhooks USING btree (webhook_id) WHERE ((state = 'ACTIVE'::text) AND (url IS NOT NULL) AND sees_all);

CREATE INDEX ix_webhooks_lineage ON public.webhooks USING btree (lineage);

CREATE INDEX ix_webhooks_owner ON public.webhooks USING btree (owner);

CREATE UNIQUE INDEX uq_attempts_open_slot ON public.attempts USING btree (gpu_id, slot) WHERE (closed_at IS NULL);

CREATE UNIQUE INDEX uq_attempts_open_task ON public.attempts USING btree (task_id) WHERE (closed_at IS NULL);

CREATE UNIQUE INDEX uq_attempts_success ON public.attempts USING btree (task_id) WHERE (outcome = 'SUCCEEDED'::text);

CREATE UNIQUE INDEX uq_operations_idempotency ON public.operations USING btree (lineage, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE UNIQUE INDEX uq_tasks_idempotency ON public.tasks USING btree (lineage, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE UNIQUE INDEX uq_webhooks_of_tasks ON public.webhooks USING btree (owner) WHERE ((url IS NULL) AND (state <> 'DELETED'::text));

CREATE TRIGGER add_deliveries AFTER INSERT ON public.event_log REFERENCING NEW TABLE AS logged FOR EACH STATEMENT EXECUTE FUNCTION public.add_deliveries();

CREATE TRIGGER count_alerts AFTER INSERT OR UPDATE ON public.alerts FOR EACH ROW EXECUTE FUNCTION public.count_alerts();

CREATE TRIGGER count_gpus AFTER INSERT OR UPDATE ON public.gpus FOR EACH ROW EXECUTE FUNCTION public.count_gpus();

CREATE TRIGGER count_tasks AFTER INSERT OR UPDATE ON public.tasks FOR EACH ROW EXECUTE FUNCTION public.count_tasks();

CREATE TRIGGER log_alert_ends AFTER UPDATE ON public.alerts FOR EACH ROW WHEN (((new.status = old.status) AND ((new.resolved_at IS NULL) <> (old.resolved_at IS NULL)))) EXECUTE FUNCTION public.log_alert_events();

CREATE TRIGGER log_alert_events AFTER UPDATE ON public.alerts FOR EACH ROW WHEN ((new.status <> old.status)) EXECUTE FUNCTION public.log_alert_events();

CREATE TRIGGER log_alert_events_of_new AFTER INSERT ON public.alerts FOR EACH ROW EXECUTE FUNCTION public.log_alert_events();

CREATE TRIGGER log_node_events AFTER UPDATE ON public.gpus FOR EACH ROW WHEN (((new.epoch <> old.epoch) OR (new.status <> old.status) OR ((new.drained_at IS NULL) <> (old.drained_at IS NULL)) OR ((new.gone_at IS NULL) <> (old.gone_at IS NULL)))) EXECUTE FUNCTION public.log_node_events();

CREATE TRIGGER log_node_events_of_new AFTER INSERT ON public.gpus FOR EACH ROW EXECUTE FUNCTION public.log_node_events();

CREATE TRIGGER log_task_events AFTER INSERT ON public.task_events REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION public.log_task_events();

CREATE TRIGGER sum_delete AFTER DELETE ON public.counters REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.sum_counters('-1');

CREATE TRIGGER sum_insert AFTER INSERT ON public.counters REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.sum_counters('1');

CREATE TRIGGER sum_replace AFTER UPDATE ON public.counters REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.sum_counters('-1');

CREATE TRIGGER sum_update AFTER UPDATE ON public.counters REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.sum_counters('1');

CREATE TRIGGER uncount_alerts AFTER DELETE ON public.alerts REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.uncount_alerts();

CREATE TRIGGER uncount_gpus AFTER DELETE ON public.gpus REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.uncount_gpus();

CREATE TRIGGER uncount_tasks AFTER DELETE ON public.tasks REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.uncount_tasks();

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT fk_attempts_task_id_tasks FOREIGN KEY (task_id) REFERENCES public.tasks(task_id);

ALTER TABLE ONLY public.late_reports
    ADD CONSTRAINT fk_late_reports_task_id_tasks FOREIGN KEY (task_id) REFERENCES public.tasks(task_id);

ALTER TABLE ONLY public.task_events
    ADD CONSTRAINT fk_task_events_task_id_tasks FOREIGN KEY (task_id) REFERENCES public.tasks(task_id);

ALTER TABLE ONLY public.task_results
    ADD CONSTRAINT fk_task_results_task_id_attempt_attempts FOREIGN KEY (task_id, attempt) REFERENCES public.attempts(task_id, attempt);
