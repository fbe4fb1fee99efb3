//! Runs a build's post-processor chains over what its builder made.

use std::sync::Arc;
use std::time::Instant;

use karat_component::{
    Artifact, ComponentError, DynBuilder, EventKind, Generated, PostProcessContext,
    PreparedPostProcessor, Processed, RunSaga,
};
use karat_hcl::diag::Diagnostics;
use karat_template::PostProcessorBlock;

/// Evaluates and proves a post-processor.
pub(crate) type PreparePostProcessor = dyn Fn(&PostProcessorBlock, &Generated) -> Result<Box<dyn PreparedPostProcessor>, Diagnostics>
    + Send
    + Sync;

/// What runs the sagas of a post-processor, by its place.
pub(crate) type SagasOf<'a> = dyn Fn(usize) -> Arc<dyn RunSaga> + Sync + 'a;

/// The chains of one build.
pub(crate) struct Chains {
    pub(crate) chains: Vec<Vec<PostProcessorBlock>>,
    pub(crate) prepare: Arc<PreparePostProcessor>,
    pub(crate) explain: Arc<dyn Fn(&Diagnostics) -> String + Send + Sync>,
    pub(crate) builder: Arc<dyn DynBuilder>,
}

/// What came of the chains.
#[derive(Debug, Default)]
pub(crate) struct PostProcessed {
    /// What is there now, the builder's artifact first if it was kept.
    pub(crate) artifacts: Vec<Artifact>,
    /// Why chains failed.
    pub(crate) errors: Vec<String>,
    /// Whether it stopped because it was told to.
    pub(crate) cancelled: bool,
}

impl Chains {
    /// Runs all chains, each from the builder's artifact. A failing chain does not stop the next.
    /// The builder's artifact is removed when no chain keeps it.
    pub(crate) async fn run(
        &self,
        artifact: Artifact,
        cx: &PostProcessContext,
        sagas: &SagasOf<'_>,
    ) -> PostProcessed {
        let mut out = PostProcessed::default();
        let mut keep = self.chains.is_empty();
        let mut index = 0;
        for chain in &self.chains {
            let (kept, made) =
                self.run_chain(chain, &artifact, (cx, sagas), &mut index, &mut out).await;
            keep |= kept;
            out.artifacts.extend(made);
            if out.cancelled {
                keep = true;
                break;
            }
        }
        // What a failing chain was given may be all there is: it stays.
        keep |= !out.errors.is_empty();
        if keep {
            out.artifacts.insert(0, artifact);
        } else {
            cx.events.say("Deleting the original artifact, since no post-processor keeps it");
            if let Err(error) = self.builder.destroy(&artifact, &cx.services).await {
                out.errors.push(error.chain());
            }
        }
        out
    }

    /// Runs one chain. Gives whether the builder's artifact is to be kept, and what was made and
    /// kept.
    async fn run_chain(
        &self,
        chain: &[PostProcessorBlock],
        first: &Artifact,
        (cx, sagas): (&PostProcessContext, &SagasOf<'_>),
        index: &mut usize,
        out: &mut PostProcessed,
    ) -> (bool, Vec<Artifact>) {
        let (mut keep_first, mut kept) = (false, Vec::new());
        let mut current = first.clone();
        for (place, block) in chain.iter().enumerate() {
            if cx.cancel.is_cancelled() {
                out.cancelled = true;
                break;
            }
            let cx = &PostProcessContext { sagas: sagas(*index), ..cx.clone() };
            let processed = self.run_one(block, current.clone(), cx, *index).await;
            *index += 1;
            let processed = match processed {
                Ok(processed) => processed,
                Err(error) => {
                    out.cancelled |= error.is_cancelled();
                    out.errors.push(format!(
                        "Post-processor \"{}\" failed: {}",
                        block.component.type_name,
                        error.chain()
                    ));
                    if place > 0 {
                        kept.push(current);
                    }
                    return (keep_first, kept);
                }
            };
            let keep = match block.keep_input_artifact {
                Some(asked) if !processed.force => asked,
                _ => processed.keep,
            };
            match (place, keep) {
                (0, keep) => keep_first = keep,
                (_, true) => kept.push(current),
                (_, false) => self.remove(&current, cx, out).await,
            }
            let Some(next) = processed.artifact else { return (keep_first, kept) };
            current = next;
        }
        if !chain.is_empty() && !out.cancelled {
            kept.push(current);
        }
        (keep_first, kept)
    }

    async fn remove(&self, artifact: &Artifact, cx: &PostProcessContext, out: &mut PostProcessed) {
        if let Err(error) = self.builder.destroy(artifact, &cx.services).await {
            out.errors.push(error.chain());
        }
    }

    async fn run_one(
        &self,
        block: &PostProcessorBlock,
        artifact: Artifact,
        cx: &PostProcessContext,
        index: usize,
    ) -> Result<Processed, ComponentError> {
        let component = block.component.type_name.clone();
        cx.events.say(format!("Running post-processor: {}", block_label(block)));
        cx.events.emit(EventKind::ComponentStarted {
            kind: "post-processor".into(),
            component: component.clone(),
            index,
        });
        let start = Instant::now();
        let result = match (self.prepare)(block, &cx.generated) {
            Ok(prepared) => prepared.post_process(cx, artifact).await,
            Err(diags) => Err(ComponentError::new((self.explain)(&diags))),
        };
        cx.events.emit(EventKind::ComponentFinished {
            kind: "post-processor".into(),
            component,
            index,
            duration: start.elapsed(),
            error: result.as_ref().err().map(ComponentError::chain),
        });
        result
    }
}

fn block_label(block: &PostProcessorBlock) -> String {
    match &block.name {
        Some(name) if *name != block.component.type_name => {
            format!("{} (type {})", name, block.component.type_name)
        }
        _ => block.component.type_name.clone(),
    }
}
