//! Waiting: one question for all who wait for things of a kind in a region.
//!
//! The first who waits starts a task that asks for everything that is waited for; the task ends
//! when nobody waits any more. It asks soon at first and less often later, at moments that differ
//! a little each time.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use karat_saga::{StepContext, StepError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::Aws;
use super::error::{AwsError, Explain};

/// How soon is asked at first.
const SOON: Duration = Duration::from_millis(400);
/// As many ids fit in one question.
const MOST: usize = 200;
/// So many questions in a row may fail: more is no accident.
const FAILURES: u32 = 4;

/// A kind of thing that can be waited for.
pub(crate) trait Watched: Sized + Send + Sync + 'static {
    /// What is known of one.
    type State: Clone + Send + Sync + 'static;
    /// The longest time between two questions.
    const DELAY: Duration;

    /// Which of the watches of a region is of this kind.
    fn watch(aws: &Aws) -> &Watch<Self>;

    /// What is known of each of `ids`; those that are not there are left out.
    fn ask(
        aws: &Aws,
        ids: Vec<String>,
    ) -> impl Future<Output = Result<HashMap<String, Self::State>, AwsError>> + Send;
}

/// What the last question gave for one id.
#[derive(Clone)]
enum Answer<S> {
    Nothing,
    Known(Option<S>),
    Failed(AwsError),
}

struct Entry<S> {
    sender: watch::Sender<(u64, Answer<S>)>,
    waiting: usize,
}

struct State<S> {
    entries: HashMap<String, Entry<S>>,
    /// Whether a task asks.
    asking: bool,
    /// Goes up when somebody new waits: then is asked soon.
    arrivals: u64,
}

/// Who waits for what, of one kind.
pub(crate) struct Watch<K: Watched> {
    state: Mutex<State<K::State>>,
}

impl<K: Watched> Default for Watch<K> {
    fn default() -> Self {
        Self { state: Mutex::new(State { entries: HashMap::new(), asking: false, arrivals: 0 }) }
    }
}

impl<K: Watched> fmt::Debug for Watch<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// What is made of a state.
pub(crate) enum Seen<T> {
    /// It is not as it should be yet.
    NotYet,
    /// It is.
    Done(T),
    /// It will never be.
    Never(StepError),
}

/// How long is waited, and for what, in words.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// "the image ami-1 to be available".
    pub(crate) what: String,
    /// The longest time.
    pub(crate) limit: Duration,
    /// What may be done when it runs out.
    pub(crate) hint: &'static str,
}

impl<K: Watched> Watch<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<K::State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `judge` is content with the state of `id`, which it gets as often as it is
    /// asked for; `None` where there is no such thing (yet).
    ///
    /// # Errors
    /// When `judge` gives up, time runs out, the step is cancelled, or nobody answers.
    pub(crate) async fn until<T>(
        aws: &Arc<Aws>,
        id: &str,
        patience: &Patience,
        cx: &StepContext,
        mut judge: impl FnMut(Option<&K::State>) -> Seen<T>,
    ) -> Result<T, StepError> {
        let deadline = Instant::now() + aws.access.limit(patience.limit);
        let mut place = Place::<K>::take(aws, id);
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = cx.cancelled() => return Err(StepError::cancelled()),
                () = tokio::time::sleep_until(deadline) => {
                    let waited = aws.access.limit(patience.limit).as_secs();
                    return Err(StepError::timed_out(format!(
                        "waited {waited} s for {}", patience.what
                    ))
                    .with_hint(patience.hint));
                }
                changed = place.answers.changed() => {
                    if changed.is_err() {
                        return Err(StepError::new(format!("nobody waits any more for {}", patience.what)));
                    }
                }
            }
            let answer = place.answers.borrow_and_update().1.clone();
            match answer {
                Answer::Nothing => {}
                Answer::Known(state) => {
                    failures = 0;
                    match judge(state.as_ref()) {
                        Seen::NotYet => {}
                        Seen::Done(done) => return Ok(done),
                        Seen::Never(error) => return Err(error),
                    }
                }
                Answer::Failed(error) => {
                    failures += 1;
                    if failures >= FAILURES || error.is_refusal() {
                        return Err(error).or_fail(format!("could not wait for {}", patience.what));
                    }
                }
            }
        }
    }
}

/// One who waits.
struct Place<K: Watched> {
    aws: Arc<Aws>,
    id: String,
    answers: watch::Receiver<(u64, Answer<K::State>)>,
}

impl<K: Watched> Place<K> {
    fn take(aws: &Arc<Aws>, id: &str) -> Self {
        let mut state = K::watch(aws).lock();
        state.arrivals += 1;
        let entry = state.entries.entry(id.to_owned()).or_insert_with(|| Entry {
            sender: watch::channel((0, Answer::Nothing)).0,
            waiting: 0,
        });
        entry.waiting += 1;
        let answers = entry.sender.subscribe();
        if !state.asking {
            state.asking = true;
            let aws = Arc::clone(aws);
            tokio::spawn(async move { ask_on::<K>(&aws).await });
        }
        Self { aws: Arc::clone(aws), id: id.to_owned(), answers }
    }
}

impl<K: Watched> Drop for Place<K> {
    fn drop(&mut self) {
        let mut state = K::watch(&self.aws).lock();
        if let Some(entry) = state.entries.get_mut(&self.id) {
            entry.waiting -= 1;
            if entry.waiting == 0 {
                state.entries.remove(&self.id);
            }
        }
    }
}

async fn ask_on<K: Watched>(aws: &Aws) {
    let (mut delay, mut seen, mut round) = (SOON, 0, 0_u64);
    loop {
        tokio::time::sleep(jittered(delay, round)).await;
        let ids: Vec<String> = {
            let mut state = K::watch(aws).lock();
            if state.entries.is_empty() {
                state.asking = false;
                return;
            }
            if state.arrivals != seen {
                seen = state.arrivals;
                delay = SOON;
            }
            state.entries.keys().cloned().collect()
        };
        round += 1;
        for ids in ids.chunks(MOST) {
            let answer = K::ask(aws, ids.to_vec()).await;
            let state = K::watch(aws).lock();
            for id in ids {
                let Some(entry) = state.entries.get(id) else { continue };
                let answer = match &answer {
                    Ok(known) => Answer::Known(known.get(id).cloned()),
                    Err(error) => Answer::Failed(error.clone()),
                };
                entry.sender.send_replace((round, answer));
            }
        }
        let longest = aws.access.delay_seconds.map_or(K::DELAY, |s| Duration::from_secs(s.into()));
        delay = (delay * 3 / 2).min(longest).max(SOON.min(longest));
    }
}

/// A delay that differs a little each time, so that many processes do not ask at one moment.
fn jittered(delay: Duration, round: u64) -> Duration {
    let seed = u64::from(std::process::id()) ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let share = u32::try_from(seed.wrapping_mul(0xD134_2543_DE82_EF95) >> 56).unwrap_or(0);
    delay * (220 + share) / 348
}
