-- A history of 100,000 ended jobs of root and 10,000 queued ones of another user, as many as one may have, each with its rows in every
-- table, for bench-scale.sh.
BEGIN;
CREATE TEMP TABLE old AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n;
INSERT INTO job(uid, gid, kind, state, launcher, priority, ranks, threads, gpus, max_without_progress, backoff_min_sec,
  backoff_max_sec, grace_sec, umask, name, user, cwd, reason, submitted, started, ended, step, steps,
  exit_code, exit_class)
SELECT 0, 0, 'command', CASE i % 3 WHEN 0 THEN 'done' WHEN 1 THEN 'failed' ELSE 'cancelled' END, 0, 0, 1, 1, 0, 5, 5, 600, 120,
  18, 'history-' || i, 'root', '/home/someone/work', 'exit code 1', i, i + 1, i + 2, 100, 100, 0, 0 FROM old;
INSERT INTO attempt(job, number, open, nonce, boot_id, pid, pid_start, gpu_mask, started, ended, resumed, first_step, step,
  checkpoint_step, exit_code, signal, exit_class, reason)
SELECT id, 1, 0, '0123456789abcdef0123456789abcdef', '01234567-89ab-cdef-0123-456789abcdef', 77, 88, 0, 1, 2, 0, 0, 100, 100, 0, 0, 0, ''
  FROM job WHERE name LIKE 'history-%';
INSERT INTO checkpoint SELECT id, 100, 1000000, 1, 0, 1, 0, '/nowhere/step-000000100.ckpt' FROM job WHERE name LIKE 'history-%';
INSERT INTO event(job, time, from_state, to_state, what, reason)
SELECT id, 1, 'queued', 'queued', 'submit', '' FROM job WHERE name LIKE 'history-%'
UNION ALL SELECT id, 1, 'queued', 'starting', 'start', '' FROM job WHERE name LIKE 'history-%'
UNION ALL SELECT id, 1, 'starting', 'running', 'hello', '' FROM job WHERE name LIKE 'history-%'
UNION ALL SELECT id, 2, 'running', state, 'finished', '' FROM job WHERE name LIKE 'history-%';
INSERT INTO job(uid, gid, kind, state, launcher, priority, ranks, threads, gpus, max_without_progress, backoff_min_sec,
  backoff_max_sec, grace_sec, umask, name, user, cwd, submitted)
SELECT 1, 1, 'command', 'queued', 0, 0, 1, 1, 0, 5, 5, 600, 120, 18, 'queued-' || i, 'daemon', '/home/someone/work',
  strftime('%s', 'now') * 1000000 FROM old WHERE i <= 10000;
INSERT INTO event(job, time, from_state, to_state, what, reason)
SELECT id, 1, 'queued', 'queued', 'submit', '' FROM job WHERE name LIKE 'queued-%';
INSERT INTO input(job, spec, environment, rlimits, command) SELECT id, 'kind: command' || char(10), x'503d3100', x'', x'7472756500' FROM job WHERE id NOT IN (SELECT job FROM input);
COMMIT;
PRAGMA wal_checkpoint(TRUNCATE);
