//! Numbers, acknowledgements, and sending again. Pure: time comes in, messages go out.
//!
//! Each direction counts from 0. What comes in order is delivered, what comes early is kept, what
//! comes again is acknowledged again. What cannot be delivered yet for want of room is kept as well,
//! and acknowledged when it is delivered: that is how either side slows the other down.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::SsmError;
use crate::message::{ChannelClosed, Message, MessageType};

/// Messages under way at most. The agent keeps 100,000; more than these would only wait elsewhere.
const WINDOW: usize = 1024;
/// How far the newest message may be ahead of the oldest without an answer. Whoever reads keeps what
/// is between them: the agent and AWS's client 10,000 messages at most.
const SPAN: i64 = 4096;
/// Messages that came early and are kept.
const KEPT: usize = 10_000;
/// Messages sent again at once.
const BURST: usize = 64;
/// Bounds of the time after which a message is sent again.
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest time between two times that a message is sent.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
const GRANULARITY: f64 = 0.01;
/// Shares of a new measurement in the round-trip time and its variation.
const SHARE: f64 = 1.0 / 8.0;
const VARIATION_SHARE: f64 = 1.0 / 4.0;
/// How long one message may stay without an answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Agent,
}

impl Side {
    fn sends(self) -> MessageType {
        match self {
            Self::Client => MessageType::Input,
            Self::Agent => MessageType::Output,
        }
    }
}

#[derive(Debug)]
struct Unacknowledged {
    sequence: i64,
    frame: Bytes,
    first: Instant,
    last: Instant,
    /// How often it was sent again.
    again: u32,
}

impl Unacknowledged {
    /// Each time a message is sent again, its answer is waited for twice as long: where a busy
    /// machine is what makes it late, more messages would make it later.
    fn is_late(&self, timeout: Duration, now: Instant) -> bool {
        let patience =
            timeout.saturating_mul(1 << self.again.min(8)).min(LONGEST_PAUSE.max(timeout));
        now.duration_since(self.last) > patience
    }

    fn sent_again(&mut self, now: Instant) -> Bytes {
        (self.last, self.again) = (now, self.again.saturating_add(1));
        self.frame.clone()
    }
}

/// A message that cannot be delivered yet.
#[derive(Debug)]
struct Early {
    message: Message,
    acknowledged: bool,
}

/// The state of a data channel, whatever carries it.
#[derive(Debug)]
pub(crate) struct Reliable {
    side: Side,
    next: i64,
    under_way: VecDeque<Unacknowledged>,
    expected: i64,
    early: BTreeMap<i64, Early>,
    round_trip: f64,
    variation: f64,
    timeout: Duration,
    paused: bool,
}

/// What comes of a message.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// To be sent back.
    pub(crate) reply: Option<Bytes>,
    /// What the channel's end says.
    pub(crate) closed: Option<String>,
}

impl Reliable {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            next: 0,
            under_way: VecDeque::new(),
            expected: 0,
            early: BTreeMap::new(),
            round_trip: 0.1,
            variation: 0.0,
            timeout: FIRST_TIMEOUT,
            paused: false,
        }
    }

    /// Whether another message may be sent now.
    pub(crate) fn may_send(&self) -> bool {
        let span = self.under_way.front().map_or(0, |oldest| self.next - oldest.sequence);
        !self.paused && self.under_way.len() < WINDOW && span < SPAN
    }

    /// Whether everything that was sent has arrived.
    pub(crate) fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The frame of a new message.
    pub(crate) fn send(&mut self, payload_type: u32, payload: Bytes, now: Instant) -> Bytes {
        let sequence = self.next;
        self.next += 1;
        let frame = Message::data(self.side.sends(), sequence, payload_type, payload).to_bytes();
        let (first, last) = (now, now);
        self.under_way.push_back(Unacknowledged {
            sequence,
            frame: frame.clone(),
            first,
            last,
            again: 0,
        });
        frame
    }

    /// Everything that has no answer yet, for a new carrier.
    pub(crate) fn outstanding(&mut self, now: Instant) -> Vec<Bytes> {
        self.paused = false;
        self.under_way.iter_mut().map(|waiting| waiting.sent_again(now)).collect()
    }

    /// What is to be sent again by now, the oldest first; nothing while the carrier is not `free`.
    pub(crate) fn overdue(&mut self, free: bool, now: Instant) -> Result<Vec<Bytes>, SsmError> {
        if let Some(oldest) = self.under_way.front()
            && now.duration_since(oldest.first) > PATIENCE
        {
            let seconds = PATIENCE.as_secs();
            return Err(SsmError::Lost(format!("no acknowledgement came for {seconds} s")));
        }
        if self.paused || !free {
            return Ok(Vec::new());
        }
        let timeout = self.timeout;
        let late = self.under_way.iter_mut().filter(|w| w.is_late(timeout, now));
        Ok(late.take(BURST).map(|waiting| waiting.sent_again(now)).collect())
    }

    /// Takes a frame. `room` tells whether something can be delivered at once.
    pub(crate) fn receive(
        &mut self,
        frame: &Bytes,
        room: bool,
        now: Instant,
    ) -> Result<Received, SsmError> {
        let message = Message::from_bytes(frame)?;
        let mut received = Received::default();
        match message.kind {
            MessageType::Acknowledge => self.acknowledged(message.acknowledged()?, now),
            MessageType::PausePublication => self.paused = true,
            MessageType::StartPublication => self.paused = false,
            MessageType::ChannelClosed => {
                let said: ChannelClosed = message.json("the end of the channel")?;
                received.closed = Some(said.output);
            }
            // A message that this side sends itself, or that is newer than this code.
            MessageType::Other(_) => {}
            ref kind if *kind == self.side.sends() => {}
            _ => {
                self.paused = false;
                received.reply = self.data(message, room);
            }
        }
        Ok(received)
    }

    /// Keeps a message that can be delivered now or later. Gives the acknowledgement, unless it has
    /// to wait.
    fn data(&mut self, message: Message, room: bool) -> Option<Bytes> {
        let sequence = message.sequence;
        if sequence < self.expected {
            return Some(Message::acknowledge(&message).to_bytes());
        }
        // The next one is taken whatever else is kept: nothing of that can go on without it.
        if !self.early.contains_key(&sequence)
            && self.early.len() >= KEPT
            && sequence != self.expected
        {
            return None;
        }
        let reply = room.then(|| Message::acknowledge(&message).to_bytes());
        let kept = self.early.entry(sequence).or_insert(Early { message, acknowledged: false });
        kept.acknowledged |= room;
        reply
    }

    /// The next message in order, if it came, and its acknowledgement, if that is still owed.
    pub(crate) fn deliver(&mut self) -> Option<(Message, Option<Bytes>)> {
        let Early { message, acknowledged } = self.early.remove(&self.expected)?;
        self.expected += 1;
        let owed = (!acknowledged).then(|| Message::acknowledge(&message).to_bytes());
        Some((message, owed))
    }

    fn acknowledged(&mut self, sequence: i64, now: Instant) {
        let Ok(at) = self.under_way.binary_search_by_key(&sequence, |w| w.sequence) else { return };
        let Some(waiting) = self.under_way.remove(at) else { return };
        // An answer to a message that was sent twice does not tell which of them it is about.
        if waiting.again > 0 {
            return;
        }
        let took = now.duration_since(waiting.last).as_secs_f64();
        self.variation += VARIATION_SHARE * ((self.round_trip - took).abs() - self.variation);
        self.round_trip += SHARE * (took - self.round_trip);
        let timeout = self.round_trip + GRANULARITY.max(4.0 * self.variation);
        self.timeout = Duration::from_secs_f64(timeout).min(LONGEST_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::payload;

    fn pair() -> (Reliable, Reliable) {
        (Reliable::new(Side::Client), Reliable::new(Side::Agent))
    }

    #[test]
    fn what_cannot_be_delivered_is_acknowledged_later() {
        let (mut client, mut agent) = pair();
        let now = Instant::now();
        let frame = client.send(payload::OUTPUT, Bytes::from_static(b"a"), now);
        assert!(agent.receive(&frame, false, now).unwrap().reply.is_none());
        let later = now + Duration::from_millis(300);
        let again = client.overdue(true, later).unwrap();
        assert_eq!(again, [frame]);
        assert!(agent.receive(&again[0], false, later).unwrap().reply.is_none());
        let (message, owed) = agent.deliver().unwrap();
        assert_eq!(message.payload, "a");
        assert!(agent.deliver().is_none());
        client.receive(&owed.unwrap(), true, later).unwrap();
        assert!(client.is_settled());
        // Once more, as if that answer had been lost.
        assert!(agent.receive(&again[0], false, later).unwrap().reply.is_some());
        assert!(agent.deliver().is_none());
    }

    #[test]
    fn the_next_one_is_taken_however_many_came_early() {
        let (_, mut agent) = pair();
        let now = Instant::now();
        let kept = i64::try_from(KEPT).unwrap();
        let receive = |agent: &mut Reliable, sequence| {
            let message =
                Message::data(MessageType::Input, sequence, payload::OUTPUT, Bytes::new());
            agent.receive(&message.to_bytes(), true, now).unwrap().reply.is_some()
        };
        for sequence in 1..=kept {
            assert!(receive(&mut agent, sequence));
        }
        assert!(!receive(&mut agent, kept + 1));
        assert!(agent.deliver().is_none());
        assert!(receive(&mut agent, 0));
        for sequence in 0..=kept {
            let (message, owed) = agent.deliver().unwrap();
            assert_eq!((message.sequence, owed), (sequence, None));
        }
        assert!(receive(&mut agent, kept + 1));
    }

    #[test]
    fn one_that_is_missing_holds_the_sender_back() {
        let (mut client, mut agent) = pair();
        let now = Instant::now();
        let missing = client.send(payload::OUTPUT, Bytes::new(), now);
        let mut sent = 1;
        while client.may_send() {
            let frame = client.send(payload::OUTPUT, Bytes::new(), now);
            let reply = agent.receive(&frame, true, now).unwrap().reply.unwrap();
            client.receive(&reply, true, now).unwrap();
            sent += 1;
        }
        assert_eq!(sent, SPAN);
        let reply = agent.receive(&missing, true, now).unwrap().reply.unwrap();
        client.receive(&reply, true, now).unwrap();
        assert!(client.may_send());
    }

    #[test]
    fn what_is_late_is_sent_again_more_and_more_seldom() {
        let (mut client, _) = pair();
        let begun = Instant::now();
        client.send(payload::OUTPUT, Bytes::from_static(b"a"), begun);
        let ticks = (1..=200).map(|n| begun + Duration::from_millis(50 * n));
        let mut sent = Vec::new();
        for now in ticks {
            assert_eq!(client.overdue(false, now).unwrap(), Vec::<Bytes>::new());
            if !client.overdue(true, now).unwrap().is_empty() {
                sent.push(now.duration_since(begun).as_millis());
            }
        }
        // 0.2 s, 0.4 s, 0.8 s, 1.6 s and 3.2 s after each other, each at the next tick.
        assert_eq!(sent, [250, 700, 1550, 3200, 6450]);
    }

    #[test]
    fn the_window_and_a_pause_hold_back() {
        let (mut client, _) = pair();
        let now = Instant::now();
        for _ in 0..WINDOW {
            assert!(client.may_send());
            client.send(payload::OUTPUT, Bytes::new(), now);
        }
        assert!(!client.may_send());
        assert!(client.overdue(true, now + PATIENCE + Duration::from_secs(1)).is_err());

        let (mut client, _) = pair();
        let mut pause = Message::closed("", "");
        pause.kind = MessageType::PausePublication;
        client.receive(&pause.to_bytes(), true, now).unwrap();
        assert!(!client.may_send());
        pause.kind = MessageType::StartPublication;
        client.receive(&pause.to_bytes(), true, now).unwrap();
        assert!(client.may_send());
    }

    #[test]
    fn the_end_is_told_with_its_reason() {
        let (mut client, _) = pair();
        let frame = Message::closed("s-1", "Unable to connect to specified port").to_bytes();
        let closed = client.receive(&frame, true, Instant::now()).unwrap().closed;
        assert_eq!(closed.as_deref(), Some("Unable to connect to specified port"));
    }

    proptest! {
        /// Whatever is lost, doubled or put out of order on the way: everything arrives, once, in
        /// order.
        #[test]
        fn a_bad_way_loses_nothing(
            count in 1usize..60,
            fates in proptest::collection::vec(0u8..5, 1..400),
        ) {
            let (mut client, mut agent) = pair();
            let mut now = Instant::now();
            let mut fates = fates.into_iter().chain(std::iter::repeat(0));
            let mut way: Vec<Bytes> = (0..count)
                .map(|n| client.send(payload::OUTPUT, Bytes::from(n.to_string()), now))
                .collect();
            let mut got = Vec::new();
            for _ in 0..1000 {
                let mut back = Vec::new();
                let mut late = Vec::new();
                for frame in way.drain(..) {
                    match fates.next() {
                        // Lost.
                        Some(1) => continue,
                        // Overtaken.
                        Some(2) => { late.push(frame); continue }
                        // Doubled.
                        Some(3) => late.push(frame.clone()),
                        _ => {}
                    }
                    let room = fates.next() != Some(4);
                    back.extend(agent.receive(&frame, room, now).unwrap().reply);
                    // Now and then nobody reads.
                    while room && let Some((message, owed)) = agent.deliver() {
                        back.extend(owed);
                        got.push(String::from_utf8(message.payload.to_vec()).unwrap());
                    }
                }
                for reply in back {
                    if fates.next() != Some(1) {
                        client.receive(&reply, true, now).unwrap();
                    }
                }
                if client.is_settled() && late.is_empty() {
                    break;
                }
                now += LONGEST_PAUSE + Duration::from_millis(1);
                way = late;
                way.extend(client.overdue(true, now).unwrap());
            }
            prop_assert!(client.is_settled());
            let wanted: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
