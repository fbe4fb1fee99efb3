//! EBS direct: the contents of snapshots, block by block.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::{Value, json};

use super::call::{Call, Job};
use super::ec2::model::{Content, Snapshot, SnapshotState};
use super::ec2::resource::find;
use super::ec2::snapshots::{self, json_tags, own, state_of};
use super::error::{AwsError, Result};
use super::kms;
use super::request::Incoming;
use crate::core::blocks::BLOCK_SIZE;
use crate::core::phase::{Millis, Phase, UNTIL_TOLD, seconds};

/// Blocks in a GiB.
const PER_GIB: u32 = 2048;
/// How long a token of a block is good, and one of a page.
const BLOCK_TOKEN_LASTS: Millis = 7 * 24 * 3600 * 1000;

/// An answer: status, headers, body.
pub(crate) struct EbsAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl EbsAnswer {
    fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into_bytes() }
    }
}

/// Numbers of blocks and the digests of what is in them.
type Blocks = Vec<(u32, Vec<u8>)>;
/// Items that are shown, and the token of the next page.
type Page<T> = (Vec<(u32, T)>, Option<String>);
/// What a block held before and holds now.
type Change = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The name of the call that a method and a path stand for.
pub(crate) fn action(method: &str, path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", ["snapshots"]) => Some("StartSnapshot"),
        ("POST", ["snapshots", "completion", _]) => Some("CompleteSnapshot"),
        ("PUT", ["snapshots", _, "blocks", _]) => Some("PutSnapshotBlock"),
        ("GET", ["snapshots", _, "blocks", _]) => Some("GetSnapshotBlock"),
        ("GET", ["snapshots", _, "blocks"]) => Some("ListSnapshotBlocks"),
        ("GET", ["snapshots", _, "changedblocks"]) => Some("ListChangedBlocks"),
        _ => None,
    }
}

fn validation(reason: &str, message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationException", format!("{reason}: {}", message.into()))
}

/// The snapshots whose blocks a request asks for.
pub(crate) fn asked_for(request: &Incoming) -> Vec<String> {
    if matches!(request.method.as_str(), "GET" | "POST")
        && !request.path.starts_with("/snapshots/completion")
    {
        named_in(request)
    } else {
        Vec::new()
    }
}

/// The snapshots that a request names.
pub(crate) fn named_in(request: &Incoming) -> Vec<String> {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let mut found: Vec<String> = match (request.method.as_str(), parts.as_slice()) {
        (_, ["snapshots", "completion", id]) | (_, ["snapshots", id, ..]) => {
            vec![(*id).to_owned()]
        }
        ("POST", ["snapshots"]) => {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            body["ParentSnapshotId"].as_str().map(str::to_owned).into_iter().collect()
        }
        _ => Vec::new(),
    };
    found.extend(request.query_value("firstSnapshotId"));
    found
}

/// Answers a call.
pub(crate) fn answer(call: &mut Call<'_>, request: &Incoming) -> Result<EbsAnswer> {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match (call.action, parts.as_slice()) {
        ("StartSnapshot", _) => start(call, request),
        ("CompleteSnapshot", [_, _, id]) => complete(call, request, id),
        ("PutSnapshotBlock", [_, id, _, index]) => put(call, request, id, index),
        ("GetSnapshotBlock", [_, id, _, index]) => get(call, request, id, index),
        ("ListSnapshotBlocks", [_, id, ..]) => list(call, request, id),
        ("ListChangedBlocks", [_, id, ..]) => changed(call, request, id),
        (other, _) => Err(super::front::unknown_operation(other)),
    }
}

fn not_found(id: &str) -> AwsError {
    AwsError::new("ResourceNotFoundException", format!("The snapshot '{id}' does not exist."))
        .status(404)
}

fn snapshot<'a>(call: &'a Call<'_>, id: &str) -> Result<&'a Snapshot> {
    own(call, id).map_err(|e| match e.code.as_str() {
        "AuthFailure" => AwsError::new("AccessDeniedException", e.message).status(403),
        _ => not_found(id),
    })
}

fn start(call: &mut Call<'_>, request: &Incoming) -> Result<EbsAnswer> {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|_| validation("INVALID_PARAMETER_VALUE", "The body is not JSON."))?;
    let size = body["VolumeSize"].as_u64().filter(|s| (1..=65_536).contains(s));
    let size = size
        .and_then(|s| u32::try_from(s).ok())
        .ok_or_else(|| validation("INVALID_VOLUME_SIZE", "VolumeSize is 1 to 65536 GiB."))?;
    let minutes = body["Timeout"].as_i64().unwrap_or(60);
    if !(10..=4320).contains(&minutes) {
        return Err(validation("INVALID_PARAMETER_VALUE", "Timeout is 10 to 4320 minutes."));
    }
    let parent = body["ParentSnapshotId"].as_str().map(str::to_owned);
    if parent.is_some() && body.get("Encrypted").is_some_and(|e| !e.is_null()) {
        return Err(validation(
            "INVALID_PARAMETER_VALUE",
            "Encrypted cannot be given together with ParentSnapshotId.",
        ));
    }
    let tags = json_tags(body.get("Tags"))?;
    let description = body["Description"].as_str().unwrap_or_default().to_owned();
    let mut made = snapshots::new(call, size, description, tags)
        .map_err(|e| AwsError::new("ServiceQuotaExceededException", e.message).status(402))?;
    made.phase = Phase::until(SnapshotState::Pending, UNTIL_TOLD, SnapshotState::Completed);
    made.content = Content::Blocks(made.id.clone());
    made.writing = Some((call.now, minutes));
    let key = body["KmsKeyArn"].as_str();
    if body["Encrypted"] == true || key.is_some() {
        made.encrypted = true;
        made.key = Some(kms::usable_key(call, key.unwrap_or(kms::EBS_ALIAS)).map_err(|e| {
            AwsError::new("ValidationException", format!("INVALID_CUSTOMER_KEY: {}", e.message))
        })?);
    }
    if let Some(id) = &parent {
        let from = snapshot(call, id)?;
        if state_of(call, from) != SnapshotState::Completed {
            return Err(validation("INVALID_PARENT", "The parent snapshot is not completed."));
        }
        if from.size > size {
            return Err(validation("INVALID_VOLUME_SIZE", "The parent snapshot is larger."));
        }
        made.encrypted = from.encrypted;
        made.key = from.key.clone();
        match &from.content {
            Content::Blocks(from) => {
                call.jobs.push(Job::CopyBlocks { from: from.clone(), to: made.id.clone() });
            }
            _ if from.laid_out => {
                call.jobs.push(Job::CopyBlocks { from: from.id.clone(), to: made.id.clone() });
            }
            Content::Empty => {}
            _ => return Err(no_blocks(id)),
        }
    }
    made.parent = parent;
    let started = seconds(made.started);
    let tags: Vec<Value> = made.tags.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    let mut answer = json!({
        "SnapshotId": made.id,
        "OwnerId": made.owner,
        "Status": "pending",
        "StartTime": started,
        "VolumeSize": size,
        "BlockSize": BLOCK_SIZE,
        "Description": made.description,
        "Tags": tags,
        "SseType": if made.encrypted { "sse-kms" } else { "sse-ebs" },
    });
    if let Some(parent) = &made.parent {
        answer["ParentSnapshotId"] = json!(parent);
    }
    if let Some(key) = &made.key {
        answer["KmsKeyArn"] = json!(key);
    }
    call.state.snapshots.insert(made);
    Ok(EbsAnswer::json(201, &answer))
}

fn no_blocks(id: &str) -> AwsError {
    validation(
        "INVALID_SNAPSHOT_ID",
        format!(
            "{id} was made from a machine, and the lab could not lay its files out as a disk: its \
             log says why."
        ),
    )
}

fn index_of(text: &str, size: u32) -> Result<u32> {
    text.parse().ok().filter(|index| *index < size.saturating_mul(PER_GIB)).ok_or_else(|| {
        validation("INVALID_BLOCK", format!("There is no block {text} in {size} GiB."))
    })
}

fn sum(bytes: &[u8]) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn put(call: &mut Call<'_>, request: &Incoming, id: &str, index: &str) -> Result<EbsAnswer> {
    let found = snapshot(call, id)?;
    if found.writing.is_none() || state_of(call, found) != SnapshotState::Pending {
        return Err(AwsError::new(
            "ConflictException",
            format!("The snapshot {id} is not being written."),
        )
        .status(409));
    }
    let number = index_of(index, found.size)?;
    let length = request.header("x-amz-data-length").unwrap_or_default();
    if request.body.len() != BLOCK_SIZE || length != BLOCK_SIZE.to_string() {
        return Err(validation("INVALID_BLOCK", format!("A block has {BLOCK_SIZE} bytes.")));
    }
    if request.header("x-amz-checksum-algorithm").as_deref() != Some("SHA256") {
        return Err(validation("INVALID_PARAMETER_VALUE", "The checksum algorithm is SHA256."));
    }
    let own = sum(&request.body);
    let told = request.header("x-amz-checksum").unwrap_or_default();
    if told != own {
        return Err(validation("INVALID_BLOCK", "The checksum is not that of the block."));
    }
    let digest = STANDARD.decode(&own).map_err(AwsError::internal)?;
    call.blocks.put(&digest, &request.body).map_err(AwsError::internal)?;
    call.database.put_block(id, number, &digest).map_err(AwsError::internal)?;
    let now = call.now;
    if let Some(snapshot) = call.state.snapshots.get_mut(id)
        && let Some((last, _)) = &mut snapshot.writing
    {
        *last = now;
    }
    Ok(EbsAnswer {
        status: 201,
        headers: vec![("x-amz-checksum", own), ("x-amz-checksum-algorithm", "SHA256".into())],
        body: Vec::new(),
    })
}

fn complete(call: &mut Call<'_>, request: &Incoming, id: &str) -> Result<EbsAnswer> {
    let found = snapshot(call, id)?;
    let count = request.header("x-amz-changedblockscount").and_then(|c| c.parse::<u64>().ok());
    let count = count.ok_or_else(|| {
        validation("INVALID_PARAMETER_VALUE", "x-amz-ChangedBlocksCount has to be given.")
    })?;
    if found.writing.is_none() {
        // Asked again after an answer that was lost.
        return Ok(EbsAnswer::json(202, &json!({ "Status": "completed" })));
    }
    if state_of(call, found) != SnapshotState::Pending {
        return Err(
            AwsError::new("ConflictException", "The snapshot is in an error state.").status(409)
        );
    }
    let blocks = call.database.blocks(id).map_err(AwsError::internal)?;
    let inherited = match &found.parent {
        Some(parent) => call.database.blocks(parent).map_err(AwsError::internal)?,
        None => Vec::new(),
    };
    let before: BTreeMap<u32, Vec<u8>> = inherited.into_iter().collect();
    let written: Vec<&(u32, Vec<u8>)> =
        blocks.iter().filter(|(n, digest)| before.get(n) != Some(digest)).collect();
    // A block that was written again with what it had counts for the client, but cannot be told
    // from one that was inherited.
    if before.is_empty() && written.len() as u64 != count {
        return Err(validation(
            "INVALID_PARAMETER_VALUE",
            format!("{} blocks were written, and ChangedBlocksCount is {count}.", written.len()),
        ));
    }
    if let Some(told) = request.header("x-amz-checksum") {
        let all: Vec<u8> = written.iter().flat_map(|(_, digest)| digest.clone()).collect();
        if before.is_empty() && told != sum(&all) {
            return Err(validation(
                "INVALID_PARAMETER_VALUE",
                "The checksum is not that of the blocks.",
            ));
        }
    }
    let due = if call.stuck { UNTIL_TOLD } else { call.now + call.settings.durations.snapshot };
    if let Some(snapshot) = call.state.snapshots.get_mut(id) {
        snapshot.writing = None;
        snapshot.phase.told(due);
    }
    Ok(EbsAnswer::json(202, &json!({ "Status": "completed" })))
}

/// A token that lets one read a block: what it is, until when, and what it was.
fn token(id: &str, number: u32, until: Millis, digest: &[u8]) -> String {
    STANDARD.encode(format!("{id} {number} {until} {}", crate::core::ids::hex(digest)))
}

/// The blocks of a completed snapshot.
fn blocks_of(call: &Call<'_>, id: &str) -> Result<(u32, Blocks)> {
    let found = find::<Snapshot>(call, id).map_err(|_| not_found(id))?;
    if state_of(call, found) != SnapshotState::Completed {
        return Err(validation("INVALID_SNAPSHOT_ID", format!("{id} is not completed.")));
    }
    let blocks = match &found.content {
        Content::Blocks(own) => call.database.blocks(own).map_err(AwsError::internal)?,
        _ if found.laid_out => call.database.blocks(id).map_err(AwsError::internal)?,
        Content::Empty => Vec::new(),
        _ => return Err(no_blocks(id)),
    };
    Ok((found.size, blocks))
}

/// A page of blocks: those from an index on, and the token of the next page.
fn page<T: Clone>(request: &Incoming, blocks: &[(u32, T)]) -> Result<Page<T>> {
    let number = |name: &str| request.query_value(name).map(|text| text.parse::<u32>());
    let wrong = |name: &str| validation("INVALID_PARAMETER_VALUE", format!("{name} is wrong."));
    let most = number("maxResults").transpose().map_err(|_| wrong("maxResults"))?.unwrap_or(1000);
    if !(100..=10_000).contains(&most) {
        return Err(wrong("maxResults"));
    }
    let from = match request.query_value("pageToken") {
        Some(token) => {
            let bytes = STANDARD.decode(token).map_err(|_| wrong("pageToken"))?;
            let text = String::from_utf8(bytes).map_err(|_| wrong("pageToken"))?;
            text.strip_prefix("page ")
                .and_then(|n| n.parse().ok())
                .ok_or_else(|| wrong("pageToken"))?
        }
        None => number("startingBlockIndex")
            .transpose()
            .map_err(|_| wrong("startingBlockIndex"))?
            .unwrap_or(0),
    };
    let most = usize::try_from(most).unwrap_or(1000);
    let rest: Vec<&(u32, T)> = blocks.iter().filter(|(n, _)| *n >= from).collect();
    let next = rest.get(most).map(|(n, _)| STANDARD.encode(format!("page {n}")));
    Ok((rest.into_iter().take(most).cloned().collect(), next))
}

fn listed(
    call: &Call<'_>,
    name: &str,
    size: u32,
    shown: Vec<Value>,
    next: Option<String>,
) -> EbsAnswer {
    let expires = seconds(call.now + BLOCK_TOKEN_LASTS);
    let mut answer = json!({
        name: shown,
        "ExpiryTime": expires,
        "VolumeSize": size,
        "BlockSize": BLOCK_SIZE,
    });
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    EbsAnswer::json(200, &answer)
}

fn list(call: &mut Call<'_>, request: &Incoming, id: &str) -> Result<EbsAnswer> {
    let (size, blocks) = blocks_of(call, id)?;
    let (shown, next) = page(request, &blocks)?;
    let until = call.now + BLOCK_TOKEN_LASTS;
    let shown = shown.iter().map(|(number, digest)| {
        json!({ "BlockIndex": number, "BlockToken": token(id, *number, until, digest) })
    });
    Ok(listed(call, "Blocks", size, shown.collect(), next))
}

fn changed(call: &mut Call<'_>, request: &Incoming, second: &str) -> Result<EbsAnswer> {
    let first = request.query_value("firstSnapshotId");
    let (size, after) = blocks_of(call, second)?;
    let before = match &first {
        Some(first) => blocks_of(call, first)?.1,
        None => Vec::new(),
    };
    let mut both: BTreeMap<u32, Change> = BTreeMap::new();
    for (number, digest) in before {
        both.entry(number).or_default().0 = Some(digest);
    }
    for (number, digest) in after {
        both.entry(number).or_default().1 = Some(digest);
    }
    let different: Vec<_> = both.into_iter().filter(|(_, (a, b))| a != b).collect();
    let (shown, next) = page(request, &different)?;
    let until = call.now + BLOCK_TOKEN_LASTS;
    let shown = shown.iter().map(|(number, (a, b))| {
        let mut one = json!({ "BlockIndex": number });
        if let (Some(digest), Some(first)) = (a, &first) {
            one["FirstBlockToken"] = json!(token(first, *number, until, digest));
        }
        if let Some(digest) = b {
            one["SecondBlockToken"] = json!(token(second, *number, until, digest));
        }
        one
    });
    Ok(listed(call, "ChangedBlocks", size, shown.collect(), next))
}

fn get(call: &mut Call<'_>, request: &Incoming, id: &str, index: &str) -> Result<EbsAnswer> {
    let (size, blocks) = blocks_of(call, id)?;
    let number = index_of(index, size)?;
    let told = request.query_value("blockToken").unwrap_or_default();
    let bad = || validation("INVALID_BLOCK_TOKEN", "The block token is not valid.");
    let text =
        STANDARD.decode(told).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(bad)?;
    let parts: Vec<&str> = text.split(' ').collect();
    let [token_id, token_number, until, _] = parts.as_slice() else { return Err(bad()) };
    if *token_id != id || *token_number != number.to_string() {
        return Err(bad());
    }
    if until.parse::<Millis>().is_ok_and(|until| until < call.now) {
        return Err(validation("BLOCK_TOKEN_EXPIRED", "The block token has expired."));
    }
    let found = blocks.into_iter().find(|(n, _)| *n == number);
    let (_, digest) = found.ok_or_else(|| not_found(&format!("{id}, block {number}")))?;
    let body = call.blocks.get(&digest).map_err(AwsError::internal)?;
    Ok(EbsAnswer {
        status: 200,
        headers: vec![
            ("x-amz-data-length", body.len().to_string()),
            ("x-amz-checksum", STANDARD.encode(digest)),
            ("x-amz-checksum-algorithm", "SHA256".into()),
            ("content-type", "application/octet-stream".into()),
        ],
        body,
    })
}
