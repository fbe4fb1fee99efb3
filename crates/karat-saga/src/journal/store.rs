//! The SQL. Each function is one job of the journal's thread.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::process::ProcessMark;
use super::records::{EventRecord, NodeRecord, RunInfo, RunRecord, RunState, SagaRecord};
use super::writer::JobError;
use crate::ids::{RunId, SagaId};
use crate::state::{NodeEvent, NodeState, SagaEvent, SagaState};
use crate::step::Lifetime;

type Done<T> = Result<T, JobError>;

/// A node as it is first stored.
#[derive(Debug, Clone)]
pub(crate) struct NewNode {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) params: Value,
    pub(crate) lifetime: Lifetime,
}

pub(crate) fn now_ms() -> i64 {
    // A clock before 1970 is no reason to stop.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn insert_run(c: &Connection, id: RunId, info: &RunInfo, by: &ProcessMark) -> Done<()> {
    let command = Value::from(info.command.clone()).to_string();
    c.prepare_cached(
        "INSERT INTO runs (id, started_ms, pid, pid_start, boot, version, command, cwd, template, fingerprint, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        id.to_string(),
        now_ms(),
        by.pid,
        to_i64(by.start),
        by.boot,
        info.version,
        command,
        info.cwd,
        info.template,
        info.fingerprint,
        RunState::Running.as_str(),
    ])?;
    Ok(())
}

pub(crate) fn describe_run(
    c: &Connection,
    id: RunId,
    template: Option<&str>,
    fingerprint: Option<&str>,
) -> Done<()> {
    c.prepare_cached("UPDATE runs SET template = coalesce(?2, template), fingerprint = coalesce(?3, fingerprint) WHERE id = ?1")?
        .execute(params![id.to_string(), template, fingerprint])?;
    Ok(())
}

pub(crate) fn hold_run(c: &Connection, id: RunId, by: &ProcessMark) -> Done<()> {
    c.prepare_cached("UPDATE runs SET pid = ?2, pid_start = ?3, boot = ?4 WHERE id = ?1")?
        .execute(params![id.to_string(), by.pid, to_i64(by.start), by.boot])?;
    Ok(())
}

pub(crate) fn unhold_run(c: &Connection, id: RunId) -> Done<()> {
    c.prepare_cached("UPDATE runs SET pid = NULL, pid_start = NULL WHERE id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

pub(crate) fn end_run(c: &Connection, id: RunId, state: RunState) -> Done<()> {
    c.prepare_cached(
        "UPDATE runs SET state = ?2, ended_ms = ?3, pid = NULL, pid_start = NULL WHERE id = ?1",
    )?
    .execute(params![id.to_string(), state.as_str(), now_ms()])?;
    Ok(())
}

pub(crate) fn delete_run(c: &Connection, id: RunId) -> Done<()> {
    if unsettled_of(c, id)? > 0 {
        return Err(JobError::Unsettled(id));
    }
    let gone = c.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([id.to_string()])?;
    if gone == 0 { Err(JobError::NotFound) } else { Ok(()) }
}

const RUN_COLUMNS: &str = "id, started_ms, ended_ms, pid, pid_start, boot, version, command, cwd, template, fingerprint, state,
    (SELECT count(*) FROM sagas WHERE run = runs.id AND state NOT IN ('succeeded', 'failed'))";

pub(crate) fn runs(c: &Connection) -> Done<Vec<(RunRecord, Option<ProcessMark>)>> {
    let mut statement = c.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM runs ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read_run(row)?);
    }
    Ok(all)
}

pub(crate) fn run(c: &Connection, id: RunId) -> Done<(RunRecord, Option<ProcessMark>)> {
    let mut statement =
        c.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1"))?;
    let mut rows = statement.query([id.to_string()])?;
    match rows.next()? {
        Some(row) => read_run(row),
        None => Err(JobError::NotFound),
    }
}

pub(crate) fn unsettled_of(c: &Connection, id: RunId) -> Done<u64> {
    let count: i64 = c
        .prepare_cached(
            "SELECT count(*) FROM sagas WHERE run = ?1 AND state NOT IN ('succeeded', 'failed')",
        )?
        .query_row([id.to_string()], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn read_run(row: &Row<'_>) -> Done<(RunRecord, Option<ProcessMark>)> {
    let id: String = row.get(0)?;
    let bad = |column: &str, value: &str| bad_value("run", &id, column, value);
    let command: String = row.get(7)?;
    let state: String = row.get(11)?;
    let pid: Option<i64> = row.get(3)?;
    let start: Option<i64> = row.get(4)?;
    let boot: Option<String> = row.get(5)?;
    let pid = match pid {
        None => None,
        Some(pid) => Some(u32::try_from(pid).map_err(|_| bad("pid", &pid.to_string()))?),
    };
    let mark = match (pid, start, boot) {
        (Some(pid), Some(start), Some(boot)) => {
            Some(ProcessMark { pid, start: start.cast_unsigned(), boot })
        }
        _ => None,
    };
    let unsettled: i64 = row.get(12)?;
    let record = RunRecord {
        id: id.parse().map_err(|_| bad("id", &id))?,
        info: RunInfo {
            version: row.get(6)?,
            command: serde_json::from_str(&command).map_err(|_| bad("command", &command))?,
            cwd: row.get(8)?,
            template: row.get(9)?,
            fingerprint: row.get(10)?,
        },
        state: RunState::from_stored(&state).ok_or_else(|| bad("state", &state))?,
        started_ms: row.get(1)?,
        ended_ms: row.get(2)?,
        pid,
        live: false,
        unsettled: u64::try_from(unsettled).unwrap_or(0),
    };
    Ok((record, mark))
}

pub(crate) fn insert_saga(
    c: &Connection,
    id: SagaId,
    run: RunId,
    name: &str,
    nodes: &[NewNode],
) -> Done<()> {
    let now = now_ms();
    let saga = id.to_string();
    c.prepare_cached(
        "INSERT INTO sagas (id, run, name, state, created_ms, changed_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?
    .execute(params![saga, run.to_string(), name, SagaState::Running.as_str(), now])?;
    let mut statement = c.prepare_cached(
        "INSERT INTO nodes (saga, name, position, kind, params, lifetime, state, changed_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (position, node) in nodes.iter().enumerate() {
        statement.execute(params![
            saga,
            node.name,
            i64::try_from(position).unwrap_or(i64::MAX),
            node.kind,
            node.params.to_string(),
            lifetime_text(node.lifetime),
            NodeState::Pending.as_str(),
            now,
        ])?;
    }
    Ok(())
}

/// Moves a node. `output` is stored with `Finish`, `error` with `Fail` and `UndoFail`.
pub(crate) fn node_event(
    c: &Connection,
    saga: SagaId,
    node: &str,
    event: NodeEvent,
    output: Option<&Value>,
    error: Option<&str>,
) -> Done<NodeState> {
    let saga_text = saga.to_string();
    let stored: Option<String> = c
        .prepare_cached("SELECT state FROM nodes WHERE saga = ?1 AND name = ?2")?
        .query_row(params![saga_text, node], |row| row.get(0))
        .optional()?;
    let stored = stored.ok_or(JobError::NotFound)?;
    let place = || format!("{saga_text}/{node}");
    let state = NodeState::from_stored(&stored)
        .ok_or_else(|| bad_value("node", &place(), "state", &stored))?;
    let next = state
        .next(event)
        .map_err(|source| JobError::Refused { what: format!("the step `{node}`"), source })?;
    let output = output.map(Value::to_string);
    match event {
        NodeEvent::Start => c.prepare_cached(
            "UPDATE nodes SET state = ?3, changed_ms = ?4, output = NULL, error = NULL WHERE saga = ?1 AND name = ?2",
        )?.execute(params![saga_text, node, next.as_str(), now_ms()])?,
        NodeEvent::Finish | NodeEvent::Undo | NodeEvent::UndoFinish => c.prepare_cached(
            "UPDATE nodes SET state = ?3, changed_ms = ?4, output = coalesce(?5, output) WHERE saga = ?1 AND name = ?2",
        )?.execute(params![saga_text, node, next.as_str(), now_ms(), output])?,
        NodeEvent::Fail | NodeEvent::UndoFail => c.prepare_cached(
            "UPDATE nodes SET state = ?3, changed_ms = ?4, error = ?5 WHERE saga = ?1 AND name = ?2",
        )?.execute(params![saga_text, node, next.as_str(), now_ms(), error])?,
    };
    Ok(next)
}

pub(crate) fn saga_event(
    c: &Connection,
    saga: SagaId,
    event: SagaEvent,
    error: Option<&str>,
) -> Done<SagaState> {
    let id = saga.to_string();
    let stored: Option<String> = c
        .prepare_cached("SELECT state FROM sagas WHERE id = ?1")?
        .query_row([&id], |row| row.get(0))
        .optional()?;
    let stored = stored.ok_or(JobError::NotFound)?;
    let state =
        SagaState::from_stored(&stored).ok_or_else(|| bad_value("saga", &id, "state", &stored))?;
    let next = state
        .next(event)
        .map_err(|source| JobError::Refused { what: format!("the saga {id}"), source })?;
    c.prepare_cached(
        "UPDATE sagas SET state = ?2, changed_ms = ?3, error = coalesce(?4, error) WHERE id = ?1",
    )?
    .execute(params![id, next.as_str(), now_ms(), error])?;
    Ok(next)
}

pub(crate) fn sagas_of(c: &Connection, run: RunId) -> Done<Vec<SagaRecord>> {
    let mut statement = c.prepare_cached(
        "SELECT id, run, name, state, error FROM sagas WHERE run = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([run.to_string()])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read_saga(c, row)?);
    }
    Ok(all)
}

pub(crate) fn saga(c: &Connection, id: SagaId) -> Done<SagaRecord> {
    let mut statement =
        c.prepare_cached("SELECT id, run, name, state, error FROM sagas WHERE id = ?1")?;
    let mut rows = statement.query([id.to_string()])?;
    match rows.next()? {
        Some(row) => read_saga(c, row),
        None => Err(JobError::NotFound),
    }
}

fn read_saga(c: &Connection, row: &Row<'_>) -> Done<SagaRecord> {
    let id: String = row.get(0)?;
    let run: String = row.get(1)?;
    let state: String = row.get(3)?;
    let bad = |column: &str, value: &str| bad_value("saga", &id, column, value);
    let mut statement = c.prepare_cached(
        "SELECT name, kind, params, lifetime, state, output, error FROM nodes WHERE saga = ?1 ORDER BY position, name",
    )?;
    let mut rows = statement.query([&id])?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        nodes.push(read_node(&id, row)?);
    }
    Ok(SagaRecord {
        id: id.parse().map_err(|_| bad("id", &id))?,
        run: run.parse().map_err(|_| bad("run", &run))?,
        name: row.get(2)?,
        state: SagaState::from_stored(&state).ok_or_else(|| bad("state", &state))?,
        error: row.get(4)?,
        nodes,
    })
}

fn read_node(saga: &str, row: &Row<'_>) -> Done<NodeRecord> {
    let name: String = row.get(0)?;
    let place = format!("{saga}/{name}");
    let bad = |column: &str, value: &str| bad_value("node", &place, column, value);
    let params: String = row.get(2)?;
    let lifetime: String = row.get(3)?;
    let state: String = row.get(4)?;
    let output: Option<String> = row.get(5)?;
    let output = match output {
        None => None,
        Some(text) => Some(serde_json::from_str(&text).map_err(|_| bad("output", &text))?),
    };
    Ok(NodeRecord {
        kind: row.get(1)?,
        params: serde_json::from_str(&params).map_err(|_| bad("params", &params))?,
        lifetime: read_lifetime(&lifetime).ok_or_else(|| bad("lifetime", &lifetime))?,
        state: NodeState::from_stored(&state).ok_or_else(|| bad("state", &state))?,
        output,
        error: row.get(6)?,
        name,
    })
}

pub(crate) fn insert_event(c: &Connection, run: RunId, seq: u64, body: &str) -> Done<()> {
    c.prepare_cached("INSERT INTO events (run, seq, at_ms, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run.to_string(), to_i64(seq), now_ms(), body])?;
    Ok(())
}

pub(crate) fn next_event(c: &Connection, run: RunId) -> Done<u64> {
    let last: Option<i64> = c
        .prepare_cached("SELECT max(seq) FROM events WHERE run = ?1")?
        .query_row([run.to_string()], |row| row.get(0))?;
    Ok(last.map_or(0, |last| last.cast_unsigned().saturating_add(1)))
}

pub(crate) fn events(
    c: &Connection,
    run: RunId,
    from: u64,
    limit: usize,
) -> Done<Vec<EventRecord>> {
    let mut statement = c.prepare_cached(
        "SELECT seq, at_ms, body FROM events WHERE run = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![run.to_string(), to_i64(from), limit])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        all.push(EventRecord { seq: seq.cast_unsigned(), at_ms: row.get(1)?, body: row.get(2)? });
    }
    Ok(all)
}

/// SQLite's integers are signed. Counts and ticks stay far below the limit; one above it keeps its bits.
fn to_i64(number: u64) -> i64 {
    number.cast_signed()
}

fn lifetime_text(lifetime: Lifetime) -> &'static str {
    match lifetime {
        Lifetime::Temporary => "temporary",
        Lifetime::Kept => "kept",
    }
}

fn read_lifetime(text: &str) -> Option<Lifetime> {
    [Lifetime::Temporary, Lifetime::Kept].into_iter().find(|l| lifetime_text(*l) == text)
}

fn bad_value(what: &str, which: &str, column: &str, value: &str) -> JobError {
    let short: String = value.chars().take(60).collect();
    JobError::Bad(format!("{what} {which} has the {column} `{short}`"))
}
