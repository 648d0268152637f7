//! One file that arrives in blocks: connections take segments of it, a hashing thread follows, and the digest decides.
//!
//! Blocks lie in a `PartFile`; those that come in order are hashed without being read back (`relay`). Should the digest be
//! wrong, the blocks that the disk changed are fetched again. Where every block is as it was written, some bytes were wrong
//! when they came: they are fetched again and compared until the digest is right, once. How many connections work on a file
//! and when is decided in `fetching`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::content::{Changed, Content, Refused, Reply};
use super::filling::{fill, fill_or_rescue};
use super::part::{MIB, PartFile, crc};
use super::relay::{Given, Relay};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::library::hashing::{Buffer, DigestPair, Digests};
use crate::storage::locked;

pub(super) const MOST_CONNECTIONS: usize = 6;
/// Connections per file by what one brings, in bytes per second: many over slow ones, few where one fills the line, one
/// where it brings blocks in order as fast as they are hashed.
const CONNECTIONS: [(f64, usize); 4] = [
    (40e6, MOST_CONNECTIONS),
    (150e6, 4),
    (600e6, 2),
    (f64::INFINITY, 1),
];
const FIRST_CONNECTIONS: usize = 4;
/// For so long, or until it has brought its segment, the first connection shows by itself how fast the line is.
const ALONE: Duration = Duration::from_millis(100);
const MOST_RESTARTS: u32 = 5;
const GUARDED_RESTARTS: u32 = 2;
/// No server's name of anything: those are quoted.
const ANY: &str = "*";
const MOST_LOSSES: u32 = 3;
const SMALLEST_SEGMENT: u64 = 8 * MIB;
const LAST_SEGMENT: u64 = 2 * MIB;
const LARGEST_SEGMENT: u64 = 256 * MIB;
const SEGMENT: Duration = Duration::from_secs(3);
/// After so many blocks of a segment, the kernel is asked to write them to the disk.
const WRITE_BLOCKS: usize = 8;
/// Blocks that are on their way through the digests, and how many of them connections have.
const HASHED_AT_ONCE: usize = 5;
const LENT: usize = 2;

/// Blocks that one connection brings.
pub(super) struct Segment {
    blocks: Range<usize>,
    generation: u64,
    /// False for a server that only gives the whole file.
    ranged: bool,
}

/// `fetch` is called by connections, `verify` by one thread of its own.
pub(super) struct LargeFile {
    pub content: Arc<Content>,
    part: PartFile,
    shared: Arc<Shared>,
    /// Whose connections are whose.
    owner: u64,
    generation: AtomicU64,
    state: Mutex<State>,
    relay: Relay,
}

struct State {
    taken: Vec<bool>,
    /// What came of blocks before their connections broke: on a line that breaks often, no block might ever come by one
    /// connection alone. Of this generation, and counted as pending.
    begun: BTreeMap<usize, Vec<u8>>,
    busy: usize,
    resetting: bool,
    ranged: bool,
    restarts: u32,
    losses: u32,
    segment: u64,
    connections: usize,
    first: Option<Instant>,
    /// How fast the line is.
    is_known: bool,
}

impl State {
    fn is_first_alone(&self) -> bool {
        !self.is_known && self.first.is_some_and(|first| first.elapsed() < ALONE)
    }
}

impl LargeFile {
    pub(super) fn new(content: Arc<Content>, part: PartFile, shared: Arc<Shared>, owner: u64) -> Self {
        shared.meter.arrived(&content.wanted.path, part.arrived());
        let state = State {
            taken: vec![false; part.count],
            begun: BTreeMap::new(),
            busy: 0,
            resetting: false,
            ranged: true,
            restarts: 0,
            losses: 0,
            segment: SMALLEST_SEGMENT,
            connections: FIRST_CONNECTIONS,
            first: None,
            is_known: false,
        };
        Self {
            content,
            part,
            shared,
            owner,
            generation: AtomicU64::new(0),
            state: Mutex::new(state),
            relay: Relay::default(),
        }
    }

    fn path(&self) -> &str {
        &self.content.wanted.path
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    // -- fetching ----------------------------------------------------------------------------------------------------

    /// The next segment that nobody fetches, or `None` when there is none at the moment.
    pub(super) fn take(&self) -> Result<Option<Segment>> {
        let mut state = locked(&self.state);
        if state.resetting {
            if state.busy > 0 {
                return Ok(None);
            }
            self.part.forget_all()?;
            if state.restarts >= GUARDED_RESTARTS {
                self.part.name_content(ANY)?;
            }
            state.taken.fill(false);
            state.resetting = false;
        }
        let most = if state.ranged { state.connections } else { 1 };
        if state.busy >= most || (state.busy > 0 && state.is_first_alone()) {
            return Ok(None);
        }
        if !state.ranged && self.shared.patience.waits() {
            return Ok(None); // or each worker would fetch all of it once more while another one waits
        }
        let blocks = if state.ranged {
            let blocks = self.size_now(&state) / self.part.block_size;
            let most = usize::try_from(blocks).unwrap_or(usize::MAX);
            let free = self.part.free(&state.taken, most);
            // What was begun is gone on with where a segment begins.
            free.map(|free| {
                let begun = state.begun.range(free.start + 1..).next();
                free.start..begun.map_or(free.end, |(block, _)| free.end.min(*block))
            })
        } else {
            Some(0..self.part.count).filter(|_| !self.part.is_complete())
        };
        let Some(blocks) = blocks.filter(|blocks| !blocks.is_empty()) else {
            return Ok(None);
        };
        state.busy += 1;
        state.first.get_or_insert_with(Instant::now);
        state.taken[blocks.clone()].fill(true);
        Ok(Some(Segment {
            blocks,
            generation: self.generation(),
            ranged: state.ranged,
        }))
    }

    /// Whether another file may be begun: no more connections can help here, and not because one fills the line.
    pub(super) fn is_handed_out(&self) -> bool {
        let state = locked(&self.state);
        if state.resetting {
            return false;
        }
        match (state.ranged, state.connections) {
            (false, _) => state.busy > 0 || self.part.is_complete(),
            (true, 1) => self.part.is_complete(),
            (true, most) => state.busy >= most || self.part.free(&state.taken, 1).is_none(),
        }
    }

    /// Towards the end segments get smaller, so that all connections end at about the same time.
    fn size_now(&self, state: &State) -> u64 {
        if state.connections == 1 {
            return state.segment;
        }
        let share = (self.part.size - self.part.arrived()) / (2 * state.connections as u64);
        state.segment.min(share.max(LAST_SEGMENT))
    }

    /// Bring a segment, or as much of it as comes.
    ///
    /// # Errors
    /// As [`Content::open`], and the disk's failures.
    pub(super) fn fetch(&self, segment: &Segment) -> Result<()> {
        let done = match self.bring(segment) {
            Ok(()) => Ok(()),
            Err(Refused::Changed(changed)) => self.begin_anew(segment.generation, &changed),
            Err(Refused::Failed(error)) => Err(error),
        };
        // What is not written yet is not to be fetched by another.
        self.relay.settle(|| self.goes_on());
        let mut state = locked(&self.state);
        state.busy -= 1;
        state.taken[segment.blocks.clone()].fill(false);
        done
    }

    fn goes_on(&self) -> bool {
        !self.shared.has_ended()
    }

    /// Ask for these blocks, or where `ranged` is false for the whole file; the first `have` bytes are there already.
    fn open(&self, blocks: &Range<usize>, have: usize, ranged: bool) -> Result<Reply, Refused> {
        let mut span = self.part.spans(blocks);
        span.start += have as u64;
        let send = |url: &str, headers: &[(&str, String)]| self.shared.send(url, headers);
        let guard = self.guard();
        self.content.open(&send, ranged.then_some(&span), &guard)
    }

    fn bring(&self, segment: &Segment) -> Result<(), Refused> {
        let (shared, part, blocks) = (&*self.shared, &self.part, &segment.blocks);
        let mut begun = self.begun_of(segment);
        let (start, mut brought) = (part.spans(blocks).start + begun.len() as u64, 0);
        let mut reply = self.open(blocks, begun.len(), segment.ranged)?;
        let _reading = shared.connections.reading(&reply, self.owner);
        self.name_content(&reply)?;
        let mut reading = Duration::ZERO;
        let mut buffer = part.buffer();
        for block in blocks.clone() {
            let began = Instant::now();
            let data = &mut buffer[..part.length(block)];
            self.fill_block(segment, block, data, &mut reply, &std::mem::take(&mut begun))?;
            if segment.generation != self.generation() {
                return Ok(());
            }
            reading += began.elapsed();
            buffer = self.pass_on(segment.generation, block, buffer)?;
            let done = block + 1 - blocks.start;
            if done.is_multiple_of(WRITE_BLOCKS) {
                part.start_writing(&(block + 1 - WRITE_BLOCKS..block + 1));
            }
            if !shared.gate.is_open() {
                return Ok(());
            }
            brought = part.span(block).end - start;
            if segment.ranged && reading > 2 * SEGMENT && locked(&self.state).connections == 1 {
                break; // it has become slow, and others may help
            }
        }
        if !segment.ranged && !reply.is_over()? {
            let size = crate::text::grouped(part.size);
            let reason = format!("more than the {size} bytes of {}", self.path());
            return Err(reply.invalid(reason).into());
        }
        self.adapt(brought, reading);
        Ok(())
    }

    fn begun_of(&self, segment: &Segment) -> Vec<u8> {
        if !segment.ranged {
            return Vec::new();
        }
        let state = locked(&self.state);
        state
            .begun
            .get(&segment.blocks.start)
            .cloned()
            .unwrap_or_default()
    }

    /// Bring a block whose first bytes, `begun`, an earlier connection brought.
    fn fill_block(
        &self,
        segment: &Segment,
        block: usize,
        data: &mut [u8],
        reply: &mut Reply,
        begun: &[u8],
    ) -> Result<()> {
        let (meter, path, have) = (&self.shared.meter, self.path(), begun.len());
        data[..have].copy_from_slice(begun);
        let rescue = |new: &[u8]| self.rescue(segment, block, begun, new);
        fill_or_rescue(&self.shared, reply, path, &mut data[have..], rescue)?;
        if segment.generation != self.generation() {
            // What was begun is not counted any more since then.
            meter.dropped(path, data.len() - have);
        }
        Ok(())
    }

    /// Keep a block; the buffer for the next.
    fn pass_on(&self, generation: u64, block: usize, buffer: Buffer) -> Result<Buffer> {
        let crc = crc(&buffer[..self.part.length(block)]);
        let given = Given {
            generation,
            block,
            buffer,
            crc,
        };
        let next = match self.relay.give(given, || self.goes_on()) {
            Ok(empty) => empty,
            Err(given) => {
                self.keep(&given)?;
                self.relay.tell();
                given.buffer
            }
        };
        locked(&self.state).begun.remove(&block);
        Ok(next)
    }

    /// Keep the first bytes of a block whose connection broke, for the next that is asked for it; those in `begun` were
    /// kept before.
    fn rescue(&self, segment: &Segment, block: usize, begun: &[u8], new: &[u8]) -> bool {
        let mut state = locked(&self.state);
        if !segment.ranged || segment.generation != self.generation() {
            return false;
        }
        state.begun.insert(block, [begun, new].concat());
        true
    }

    fn name_content(&self, reply: &Reply) -> Result<(), Refused> {
        if reply.is_encoded() {
            let reason = format!(
                "{} in a compressed form, although it was asked not to",
                self.path()
            );
            return Err(reply.invalid(reason).into());
        }
        let etag = reply.header("etag");
        if etag.is_empty() {
            return Ok(());
        }
        let _naming = locked(&self.state);
        if self.part.etag().is_empty() {
            self.part.name_content(etag)?;
        }
        let guard = self.guard();
        if guard.is_empty() || guard == etag {
            Ok(())
        } else {
            Err(Refused::changed())
        }
    }

    /// The content that a span must be of. Servers of one address may each have a name of their own for the same bytes: once
    /// it seemed to change again, only the digest decides.
    fn guard(&self) -> String {
        Some(self.part.etag())
            .filter(|etag| etag != ANY)
            .unwrap_or_default()
    }

    fn keep(&self, given: &Given) -> Result<()> {
        let data = &given.buffer[..self.part.length(given.block)];
        self.part.write_known(given.block, data, given.crc)?;
        self.kept(data.len());
        Ok(())
    }

    fn kept(&self, length: usize) {
        self.shared.meter.dropped(self.path(), length);
        self.shared.meter.arrived(self.path(), self.part.arrived());
    }

    /// Ask for as much at a time as takes some seconds: few requests on a fast line, little lost on a slow one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded before it becomes a number of bytes"
    )]
    fn adapt(&self, brought: u64, took: Duration) {
        if brought == 0 || took.is_zero() {
            return;
        }
        let rate = brought as f64 / took.as_secs_f64();
        let wanted = rate * SEGMENT.as_secs_f64();
        let mut state = locked(&self.state);
        state.segment = wanted.clamp(SMALLEST_SEGMENT as f64, LARGEST_SEGMENT as f64) as u64;
        let fitting = CONNECTIONS.iter().find(|(limit, _)| rate < *limit);
        state.connections = fitting.map_or(1, |(_, count)| *count);
        state.is_known = true;
    }

    fn begin_anew(&self, generation: u64, changed: &Changed) -> Result<()> {
        let why = changed.reason;
        let begun: usize = {
            let mut state = locked(&self.state);
            if generation != self.generation() {
                return Ok(());
            }
            state.restarts += 1;
            if state.restarts > MOST_RESTARTS {
                return Err(self.mismatch(format!("it was begun {MOST_RESTARTS} times because {why}")));
            }
            self.generation.fetch_add(1, Ordering::AcqRel);
            state.resetting = true;
            state.ranged = changed.ranges;
            std::mem::take(&mut state.begun).values().map(Vec::len).sum()
        };
        self.shared.meter.dropped(self.path(), begun);
        self.shared.meter.restarted(self.path(), why);
        self.shared.connections.end_of(self.owner);
        self.shared.tell();
        Ok(())
    }

    fn mismatch(&self, reason: String) -> Error {
        Error::DigestMismatch {
            name: self.path().to_owned(),
            reason,
        }
    }

    // -- verifying ---------------------------------------------------------------------------------------------------

    /// Follow the blocks as they arrive; answers the digests once they are those expected.
    ///
    /// # Errors
    /// `DigestMismatch`: the bytes are wrong, also those of a second try. `DiskError`, and what the second try fails with.
    pub(super) fn verify(&self) -> Result<Digests> {
        let expected = self.content.wanted.expected();
        let mut repaired = false;
        loop {
            let generation = self.begun()?;
            let Some(digests) = self.follow(generation)? else {
                continue;
            };
            let found = self.digest(&digests)?;
            if found == expected {
                self.part.sync()?;
                return Ok(digests);
            }
            if repaired {
                self.part.forget_all()?;
                self.shared
                    .meter
                    .restarted(self.path(), "what arrived was wrong twice");
                return Err(self.mismatch(format!("expected {expected}, got {found}, twice")));
            }
            let damaged = self.part.damaged(|| self.shared.stop())?;
            if !damaged.is_empty() {
                self.forget(&damaged)?;
                continue;
            }
            repaired = true;
            let ranged = locked(&self.state).ranged;
            if !ranged {
                let changed = Changed {
                    reason: "its digest was wrong",
                    ranges: false,
                };
                self.begin_anew(generation, &changed)?;
            } else if let Some(mended) = self.repair(generation)? {
                self.part.sync()?;
                return Ok(mended);
            }
        }
    }

    /// The generation of the blocks that are there; waits until those of an earlier one are gone.
    fn begun(&self) -> Result<u64> {
        loop {
            let seen = self.shared.told();
            {
                let state = locked(&self.state);
                if !state.resetting {
                    return Ok(self.generation());
                }
            }
            self.shared.stop()?;
            self.shared.wait(seen);
        }
    }

    /// The disk changed these blocks since they were written; they alone are fetched again.
    fn forget(&self, damaged: &[usize]) -> Result<()> {
        let losses = {
            let mut state = locked(&self.state);
            state.losses += 1;
            state.losses
        };
        if losses > MOST_LOSSES {
            return Err(Error::DiskError(format!(
                "The disk does not keep {} as it was written; check the drive.",
                self.path()
            )));
        }
        damaged.iter().try_for_each(|block| self.part.forget(*block))
    }

    fn digest(&self, digests: &Digests) -> Result<String> {
        self.content.wanted.digest(&digests.sha256, |take| {
            self.part.each_block(|_, data| {
                self.shared.stop()?;
                take(data);
                Ok(())
            })
        })
    }

    /// The digests of all blocks, waiting for those to come; `None` when the file was begun anew meanwhile.
    fn follow(&self, generation: u64) -> Result<Option<Digests>> {
        let size = usize::try_from(self.part.block_size).unwrap_or(usize::MAX);
        let mut pair = DigestPair::start(HASHED_AT_ONCE, size)?;
        self.relay
            .open(generation, (0..LENT).map(|_| pair.buffer()).collect());
        let followed = (0..self.part.count).try_fold(true, |goes_on, block| {
            Ok::<_, Error>(goes_on && self.hash(block, generation, &mut pair)?)
        });
        self.keep_given(generation);
        if !followed? {
            return Ok(None);
        }
        let digests = pair.digests()?;
        Ok(Some(digests).filter(|_| generation == self.generation()))
    }

    /// Once it is there; false when the file was begun anew meanwhile.
    fn hash(&self, block: usize, generation: u64, pair: &mut DigestPair) -> Result<bool> {
        let length = self.part.length(block);
        while generation == self.generation() {
            self.shared.stop()?;
            if let Some(given) = self.relay.take(block, |block| self.part.is_whole(block)) {
                self.part
                    .write_direct(block, &given.buffer[..length], given.crc)?;
                self.kept(length);
                pair.put(given.buffer, length);
                self.relay.done(Some(pair.buffer()));
                return Ok(true);
            }
            if self.part.is_whole(block) {
                let mut buffer = pair.buffer();
                self.part
                    .read(self.part.span(block).start, &mut buffer[..length])?;
                pair.put(buffer, length);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn keep_given(&self, generation: u64) {
        for given in self.relay.close() {
            // An earlier failure is told.
            if generation != self.generation() || self.keep(&given).is_err() {
                let lost = self.part.length(given.block);
                self.shared.meter.dropped(self.path(), lost);
            }
            self.relay.done(None);
        }
    }

    /// Fetch the file again, segment by segment, until the digest is right. `None`: there was nothing to mend, or the file
    /// was begun anew.
    ///
    /// The hub gives one digest per file, so which of the blocks is wrong is only seen by comparing.
    fn repair(&self, generation: u64) -> Result<Option<Digests>> {
        let path = self.path();
        let note = format!("The digest of {path} is wrong; looking for the bytes that arrived damaged.");
        self.shared.meter.retries(Duration::ZERO, note);
        let step = usize::try_from(SMALLEST_SEGMENT / self.part.block_size)
            .unwrap_or(1)
            .max(1);
        for first in (0..self.part.count).step_by(step) {
            let blocks = first..self.part.count.min(first + step);
            let mut mended = BTreeSet::new();
            while !self.compare(&blocks, &mut mended)? {
                if generation != self.generation() {
                    return Ok(None);
                }
            }
            self.shared.patience.progressed();
            if !mended.is_empty() {
                let Some(digests) = self.follow(generation)? else {
                    return Ok(None);
                };
                if self.digest(&digests)? == self.content.wanted.expected() {
                    return Ok(Some(digests));
                }
            }
        }
        Ok(None)
    }

    /// Bring these blocks again and keep those that differ, which are added to `mended`; false: not all came.
    fn compare(&self, blocks: &Range<usize>, mended: &mut BTreeSet<usize>) -> Result<bool> {
        self.shared.hold()?;
        match self.bring_again(blocks, mended) {
            Ok(()) => Ok(true),
            Err(Refused::Changed(changed)) => {
                self.begin_anew(self.generation(), &changed)?;
                Ok(false)
            }
            Err(Refused::Failed(error)) => {
                self.shared.stop()?;
                self.shared.wait_after(error)?;
                Ok(false)
            }
        }
    }

    fn bring_again(&self, blocks: &Range<usize>, mended: &mut BTreeSet<usize>) -> Result<(), Refused> {
        let mut reply = self.open(blocks, 0, true)?;
        let _reading = self.shared.connections.reading(&reply, self.owner);
        let mut buffer = self.part.buffer();
        for block in blocks.clone() {
            let data = &mut buffer[..self.part.length(block)];
            fill(&self.shared, &mut reply, self.path(), data)?;
            self.shared.meter.dropped(self.path(), data.len());
            if !self.part.matches(block, data) {
                self.part.write(block, data)?;
                mended.insert(block);
            }
        }
        Ok(())
    }
}
