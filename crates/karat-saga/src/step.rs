//! One reversible piece of work, its erased twin, and how a stored one is read back.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::StepContext;

/// What becomes of a step's effect when the whole saga succeeds.
///
/// After a failure both kinds are undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Needed only while the saga runs (a key pair, an instance, an upload): undone at success too.
    Temporary,
    /// What the saga is for (an image, a snapshot): undone only after a failure.
    Kept,
}

/// One reversible piece of work.
///
/// The value *is* the stored parameters: it is written to the journal before [`run`](Step::run) is called,
/// and read back from there when another process resumes or undoes the saga. So whatever is needed to find
/// the effect again (ids, client tokens, tags, paths) is chosen before the step is built and is a field of it,
/// and a secret never is.
///
/// Contract:
///
/// - `run` is idempotent. It may be called again with the same parameters after a crash, after a cancelled
///   call whose future was dropped at any await, or after a failure; it must find what the first call made.
/// - `undo` succeeds when there is nothing to undo, and may be called any number of times. `done` is `None`
///   when the step may have run in part: then the effect is found by the parameters.
/// - `undo` relies on nothing but parameters, outputs of earlier nodes and services. It may be called in
///   another process than `run`, long after.
/// - Both watch [`StepContext::cancelled`] where they wait long.
pub trait Step: Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static {
    /// Names the type in the journal. Unique among the steps of a program, and never changed: a journal
    /// written by an older version must still be undone.
    const KIND: &'static str;

    /// Whether what it makes lies outside of this computer and is still there after the computer lost power.
    /// The journal is on the disk, and not only in the kernel's memory, before such a step runs, and once its
    /// saga is complete.
    const REMOTE: bool = false;

    /// Stored when `run` succeeds; later nodes read it by this node's name. Never holds a secret.
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Whether the effect outlives the saga's success.
    fn lifetime(&self) -> Lifetime {
        Lifetime::Temporary
    }

    /// Makes the effect, or finds it when it is already made.
    fn run(&self, cx: &StepContext)
    -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Removes the effect. Succeeds when there is none.
    fn undo(
        &self,
        cx: &StepContext,
        done: Option<Self::Output>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// The object-safe twin of [`Step`]. Every step has it by a blanket implementation; nothing else should.
#[async_trait]
pub trait DynStep: fmt::Debug + Send + Sync + 'static {
    /// [`Step::KIND`].
    fn kind(&self) -> &'static str;

    /// [`Step::REMOTE`].
    fn is_remote(&self) -> bool;

    /// [`Step::lifetime`], under a name that does not clash with it.
    fn stored_lifetime(&self) -> Lifetime;

    /// The parameters as the journal stores them.
    ///
    /// # Errors
    /// When the step's `Serialize` fails, such as for a map whose keys are not text.
    fn stored_params(&self) -> Result<Value, serde_json::Error>;

    /// [`Step::run`], with its output as the journal stores it.
    async fn run_erased(&self, cx: &StepContext) -> Result<Value, StepError>;

    /// [`Step::undo`]. An output that this version cannot read (an older one wrote it) counts as none.
    async fn undo_erased(&self, cx: &StepContext, done: Option<Value>) -> Result<(), StepError>;
}

#[async_trait]
impl<S: Step> DynStep for S {
    fn kind(&self) -> &'static str {
        S::KIND
    }

    fn is_remote(&self) -> bool {
        S::REMOTE
    }

    fn stored_lifetime(&self) -> Lifetime {
        self.lifetime()
    }

    fn stored_params(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    async fn run_erased(&self, cx: &StepContext) -> Result<Value, StepError> {
        let output = self.run(cx).await?;
        serde_json::to_value(&output)
            .map_err(|e| StepError::because("could not write down the step's output", e))
    }

    async fn undo_erased(&self, cx: &StepContext, done: Option<Value>) -> Result<(), StepError> {
        let done = done.and_then(|value| match S::Output::deserialize(value) {
            Ok(output) => Some(output),
            Err(error) => {
                tracing::warn!(node = cx.node(), kind = S::KIND, %error, "stored output is unreadable; undoing by parameters");
                None
            }
        });
        self.undo(cx, done).await
    }
}

/// Why a step did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepErrorKind {
    /// The work could not be done.
    Failed,
    /// The step ended because it was told to.
    Cancelled,
    /// The step ran out of time.
    TimedOut,
    /// The step panicked: a bug in it.
    Panicked,
}

/// A step's failure: what was tried, and as [`source`](Error::source) why it did not work.
///
/// The message does not repeat its cause. Neither it nor the hint holds a secret, since both are stored.
#[derive(Debug)]
pub struct StepError {
    kind: StepErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// A failure that has no cause below it.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { kind: StepErrorKind::Failed, message: message.into(), hint: None, source: None }
    }

    /// A failure with its cause: `StepError::because("could not create the key pair", error)`.
    #[must_use]
    pub fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(message) }
    }

    /// What a step returns when it stopped because [`StepContext::cancelled`] resolved.
    #[must_use]
    pub fn cancelled() -> Self {
        Self { kind: StepErrorKind::Cancelled, ..Self::new("cancelled") }
    }

    /// What a step returns when its own time limit passed.
    #[must_use]
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self { kind: StepErrorKind::TimedOut, ..Self::new(message) }
    }

    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let message = format!("the step panicked: {text}");
        Self { kind: StepErrorKind::Panicked, ..Self::new(message) }
            .with_hint("this is a bug in the step, not in the template")
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, when it is known only later.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Which sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> StepErrorKind {
        self.kind
    }

    /// What was tried, without the cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and its causes in one line, as the journal stores it.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

type ReadStep = fn(Value) -> Result<Box<dyn DynStep>, serde_json::Error>;

/// The steps that a program knows, by [`Step::KIND`]: what reads a stored step back, so that a saga can be
/// resumed or undone without the template that it came from.
#[derive(Default, Clone)]
pub struct StepRegistry {
    readers: BTreeMap<&'static str, ReadStep>,
}

impl StepRegistry {
    /// A registry that knows no step.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step. Registering the same type again is harmless.
    ///
    /// # Panics
    /// When another type already has this `KIND`: two steps of one program must not share a name.
    pub fn register<S: Step>(&mut self) -> &mut Self {
        let read: ReadStep = |params| Ok(Box::new(S::deserialize(params)?));
        if let Some(known) = self.readers.insert(S::KIND, read) {
            assert!(std::ptr::fn_addr_eq(known, read), "two kinds of step are named `{}`", S::KIND);
        }
        self
    }

    /// [`register`](Self::register), for building a registry in one expression.
    #[must_use]
    pub fn with<S: Step>(mut self) -> Self {
        self.register::<S>();
        self
    }

    /// The known kinds, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.readers.keys().copied()
    }

    /// Reads a stored step back.
    ///
    /// # Errors
    /// When the kind is unknown to this program, or its parameters do not have the form it expects.
    pub fn read(&self, kind: &str, params: Value) -> Result<Box<dyn DynStep>, StepError> {
        let Some(read) = self.readers.get(kind) else {
            return Err(StepError::new(format!(
                "the journal holds a step of the unknown kind `{kind}`"
            ))
            .with_hint(
                "it was written by another version of this program; use that one, or a newer one",
            ));
        };
        read(params).map_err(|error| {
            StepError::because(
                format!("the stored parameters of a step of kind `{kind}` cannot be read"),
                error,
            )
        })
    }
}

impl fmt::Debug for StepRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.readers.keys()).finish()
    }
}
