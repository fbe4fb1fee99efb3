//! Blocks, side by side, each with its checksum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ebs::types::{ChecksumAggregationMethod, ChecksumAlgorithm, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _};
use karat_component::ComponentError;
use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::record::{Blocks, Log, Place, Record, Sum};
use super::{Imported, Work, cancelled};
use crate::client::{Explain, Watched};
use crate::ebs::{SnapshotStates, TOKEN_TAG};

/// So many blocks are on their way at once.
const AT_ONCE: usize = 32;
/// Minutes after the last block in which a snapshot can still be gone on with.
const MINUTES: i32 = 1440;

/// What became of a block.
enum Fate {
    Zero,
    Same,
    Resumed,
    Sent,
}

/// What all blocks need.
struct Sending<'a> {
    client: aws_sdk_ebs::Client,
    snapshot: &'a str,
    parent: &'a Blocks,
    sent: &'a Blocks,
    log: Log,
    progress: AtomicU64,
}

impl Work<'_> {
    /// Sends what has to be sent; gives the token that everything is tagged with.
    pub(super) async fn upload(
        &self,
        disk: Disk,
        done: &mut Imported,
    ) -> Result<String, ComponentError> {
        let import = self.import;
        let place = Record::path(&import.state_dir, &import.key_of(&self.aws));
        let record = self.begin(&place, &disk).await?;
        done.snapshot.clone_from(&record.snapshot);
        let parent = match &record.parent {
            Some(parent) => self.parent(&place, parent).await?,
            None => Blocks::new(),
        };
        if !record.complete {
            self.send(&place, &record, &disk, &parent, done).await?;
        }
        self.completed(&record.snapshot).await?;
        let mut blocks = parent;
        blocks.extend(place.sent());
        let io = |e| ComponentError::because("could not write down what was sent", e);
        place.keep_blocks_of(&record.snapshot, &blocks).map_err(io)?;
        place.write(&Record { complete: true, ..record.clone() }).map_err(io)?;
        Ok(record.token)
    }

    /// The snapshot to write to: the one that an earlier run began, or another.
    async fn begin(&self, place: &Place, disk: &Disk) -> Result<Record, ComponentError> {
        let import = self.import;
        let io = |e| ComponentError::because("could not write down what was sent", e);
        let wanted = Record {
            token: match import.token.is_empty() {
                true => format!("karat-{}", uuid::Uuid::new_v4().simple()),
                false => import.token.clone(),
            },
            snapshot: String::new(),
            complete: false,
            written: disk.written.clone(),
            parent: import.parent.clone(),
            encrypt: import.encrypt,
            key: import.key.clone(),
        };
        if let Some(known) = place.read() {
            let same = Record {
                token: known.token.clone(),
                snapshot: known.snapshot.clone(),
                complete: known.complete,
                ..wanted.clone()
            } == known;
            if same && self.goes_on(&known).await? {
                if known.snapshot.is_empty() {
                    return self.start(place, known, disk).await;
                }
                self.say(format!("Going on with {}", known.snapshot));
                return Ok(known);
            }
            self.say("Removing what was sent of another state of the disk");
            self.remove_images(&known.token).await;
            self.delete_snapshots(&self.aws, &known.token).await?;
            place.remove();
        }
        place.write(&wanted).map_err(io)?;
        self.start(place, wanted, disk).await
    }

    /// Whether a snapshot that an earlier run began can still be written to, or is whole.
    async fn goes_on(&self, record: &Record) -> Result<bool, ComponentError> {
        if record.snapshot.is_empty() {
            return Ok(true);
        }
        let known = SnapshotStates::ask(&self.aws, vec![record.snapshot.clone()]).await;
        let known = known.or_tell(format!("could not look at {}", record.snapshot))?;
        let known = known.get(&record.snapshot);
        Ok(known.is_some_and(|s| matches!(&*s.state, "pending" | "completed")))
    }

    async fn start(
        &self,
        place: &Place,
        mut record: Record,
        disk: &Disk,
    ) -> Result<Record, ComponentError> {
        let size = i64::try_from(disk.gib()).unwrap_or(i64::MAX);
        let mut tags = self.import.tags.clone();
        tags.insert(TOKEN_TAG.to_owned(), record.token.clone());
        let tags: Vec<Tag> =
            tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect();
        let encrypt = record.parent.is_none() && (record.encrypt || !record.key.is_empty());
        let key = (encrypt && !record.key.is_empty()).then(|| record.key.clone());
        let ask = self
            .aws
            .ebs()
            .start_snapshot()
            .volume_size(size)
            .client_token(&record.token)
            .description(format!("Sent by Karat for {}", self.import.name))
            .set_parent_snapshot_id(record.parent.clone())
            .set_encrypted(encrypt.then_some(true))
            .set_kms_key_arn(key)
            .set_tags(Some(tags))
            .timeout(MINUTES)
            .send();
        let made = ask.await.or_tell("could not begin the snapshot")?;
        record.snapshot = made.snapshot_id().unwrap_or_default().to_owned();
        place
            .write(&record)
            .map_err(|e| ComponentError::because("could not write down what was sent", e))?;
        self.say(format!("Sending {} to {}", self.import.disk.display(), record.snapshot));
        Ok(record)
    }

    /// What the parent has: as it was sent from here, or read from it.
    async fn parent(&self, place: &Place, id: &str) -> Result<Blocks, ComponentError> {
        if let Some(blocks) = place.blocks_of(id) {
            return Ok(blocks);
        }
        self.say(format!("Reading {id}, which was not sent from here"));
        let what = || format!("could not read the snapshot {id}");
        let client = self.aws.ebs();
        let mut pages = client.list_snapshot_blocks().snapshot_id(id).into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            for block in page.or_tell(what())?.blocks() {
                let token = block.block_token().unwrap_or_default().to_owned();
                all.push((block.block_index().unwrap_or_default(), token));
            }
        }
        let reads = futures::stream::iter(all).map(|(index, token)| {
            let client = &client;
            async move {
                let ask = client.get_snapshot_block().snapshot_id(id).block_index(index);
                let answer = ask.block_token(token).send().await.or_tell(what())?;
                let bytes = answer.block_data.collect().await;
                let bytes = bytes.map_err(|e| ComponentError::because(what(), e))?.into_bytes();
                let sum: Sum = Sha256::digest(&bytes).into();
                Ok::<_, ComponentError>((u32::try_from(index).unwrap_or_default(), sum))
            }
        });
        let blocks: Blocks = reads.buffer_unordered(AT_ONCE).try_collect().await?;
        let kept = place.keep_blocks_of(id, &blocks);
        kept.map_err(|e| ComponentError::because("could not write down what the parent has", e))?;
        Ok(blocks)
    }

    async fn send(
        &self,
        place: &Place,
        record: &Record,
        disk: &Disk,
        parent: &Blocks,
        done: &mut Imported,
    ) -> Result<(), ComponentError> {
        let sent = place.sent();
        let log = place
            .open_log()
            .map_err(|e| ComponentError::because("could not write down what was sent", e))?;
        let sending = Arc::new(Sending {
            client: self.aws.ebs(),
            snapshot: &record.snapshot,
            parent,
            sent: &sent,
            log,
            progress: AtomicU64::new(0),
        });
        let total = disk.blocks();
        let fates = futures::stream::iter(0..total).map(|index| {
            let sending = Arc::clone(&sending);
            async move {
                let fate = sending.block(disk, index).await?;
                let count = sending.progress.fetch_add(1, Ordering::Relaxed) + 1;
                if count.is_multiple_of(2048) {
                    self.say(format!("{count} of {total} blocks"));
                }
                Ok::<_, ComponentError>(fate)
            }
        });
        let mut fates = fates.buffer_unordered(AT_ONCE);
        loop {
            let fate = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(cancelled()),
                fate = fates.try_next() => fate?,
            };
            match fate {
                None => break,
                Some(Fate::Zero) => done.zero += 1,
                Some(Fate::Same) => done.same += 1,
                Some(Fate::Resumed) => done.resumed += 1,
                Some(Fate::Sent) => done.sent += 1,
            }
        }
        drop(fates);
        let all = place.sent();
        let mut whole = Sha256::new();
        all.values().for_each(|sum| whole.update(sum));
        let ask = self
            .aws
            .ebs()
            .complete_snapshot()
            .snapshot_id(&record.snapshot)
            .changed_blocks_count(i32::try_from(all.len()).unwrap_or(i32::MAX))
            .checksum(STANDARD.encode(whole.finalize()))
            .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
            .checksum_aggregation_method(ChecksumAggregationMethod::ChecksumAggregationLinear)
            .send();
        ask.await.map(|_| ()).or_tell(format!("could not complete {}", record.snapshot))
    }
}

impl Sending<'_> {
    async fn block(&self, disk: &Disk, index: u64) -> Result<Fate, ComponentError> {
        let from = disk.clone();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = from.block(index)?;
            let sum: Sum = Sha256::digest(&bytes).into();
            let zero = bytes.iter().all(|byte| *byte == 0);
            Ok::<_, std::io::Error>((bytes, sum, zero))
        });
        let fail = || format!("could not read block {index} of the disk");
        let read = read.await.map_err(|e| ComponentError::because(fail(), e))?;
        let (bytes, sum, zero) = read.map_err(|e| ComponentError::because(fail(), e))?;
        let number = u32::try_from(index)
            .map_err(|_| ComponentError::new("the disk is larger than AWS takes"))?;
        if self.sent.get(&number) == Some(&sum) {
            return Ok(Fate::Resumed);
        }
        match self.parent.get(&number) {
            Some(before) if *before == sum => return Ok(Fate::Same),
            None if zero => return Ok(Fate::Zero),
            _ => {}
        }
        let what = || format!("could not send block {index} to {}", self.snapshot);
        let told = STANDARD.encode(sum);
        let answer = self
            .client
            .put_snapshot_block()
            .snapshot_id(self.snapshot)
            .block_index(i32::try_from(number).unwrap_or(i32::MAX))
            .data_length(i32::try_from(bytes.len()).unwrap_or(i32::MAX))
            .checksum(&told)
            .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
            .block_data(ByteStream::from(bytes))
            .send()
            .await
            .or_tell(what())?;
        if answer.checksum().is_some_and(|got| got != told) {
            return Err(ComponentError::new(format!("{}: it arrived otherwise", what())));
        }
        let added = self.log.add(number, &sum);
        added.map_err(|e| ComponentError::because("could not write down what was sent", e))?;
        Ok(Fate::Sent)
    }
}
