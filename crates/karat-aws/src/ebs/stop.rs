//! Steps `stop` and `release`: the machine stops, and goes when its image stands.

use std::time::Duration;

use aws_sdk_ec2::types::{AttributeBooleanValue, AttributeValue};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::node;
use super::scope::{Scope, say};
use super::states::{InstanceStates, Machine};
use crate::client::{Explain, Patience, Seen, Watch, has_code};

/// How long a machine may take to stop.
const STOP: Duration = Duration::from_secs(1200);

/// Stops the machine, and sets what can only be set then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StopMachine {
    pub(crate) scope: Scope,
    pub(crate) stops_itself: bool,
    pub(crate) ena: Option<bool>,
    pub(crate) sriov: bool,
}

impl Step for StopMachine {
    const KIND: &'static str = "aws.stop";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let machine: Machine = cx.output(node::INSTANCE)?;
        let id = &machine.id;
        if self.stops_itself {
            say(cx, format!("Waiting for {id} to stop by itself"));
        } else {
            say(cx, format!("Stopping {id}"));
            let ask = aws.ec2.stop_instances().instance_ids(id).send();
            cx.unless_cancelled(ask).await?.or_fail(format!("could not stop {id}"))?;
        }
        let patience = Patience {
            what: format!("{id} to stop"),
            limit: STOP,
            hint: match self.stops_itself {
                true => "disable_stop_instance leaves it to a provisioner to shut the machine down",
                false => "aws_polling allows more",
            },
        };
        Watch::<InstanceStates>::until(&aws, id, &patience, cx, |machine| match machine {
            Some(m) if m.state == "stopped" => Seen::Done(()),
            Some(m) if m.is_ending() => Seen::Never(
                StepError::new(format!("{} was terminated before it could be captured", m.id))
                    .with_hint("a shutdown from inside terminates it: set disable_stop_instance = true, or shutdown_behavior = \"stop\""),
            ),
            Some(_) => Seen::NotYet,
            None => Seen::Never(StepError::new("the machine is gone")),
        })
        .await?;
        if self.sriov {
            let simple = AttributeValue::builder().value("simple").build();
            let ask = aws
                .ec2
                .modify_instance_attribute()
                .instance_id(id)
                .sriov_net_support(simple)
                .send();
            cx.unless_cancelled(ask).await?.or_fail("could not set sriov_support")?;
        }
        if let Some(ena) = self.ena {
            let value = AttributeBooleanValue::builder().value(ena).build();
            let ask = aws.ec2.modify_instance_attribute().instance_id(id).ena_support(value).send();
            cx.unless_cancelled(ask).await?.or_fail("could not set ena_support")?;
        }
        Ok(())
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}

/// Lets the machine go as soon as its image stands: it costs, and copies take long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) scope: Scope,
}

impl Step for Release {
    const KIND: &'static str = "aws.release";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let machine: Machine = cx.output(node::INSTANCE)?;
        say(cx, format!("Terminating {}: its image stands", machine.id));
        let ask = aws.ec2.terminate_instances().instance_ids(&machine.id).send();
        match cx.unless_cancelled(ask).await? {
            Err(e) if !has_code(&e, &["InvalidInstanceID.NotFound"]) => {
                Err(e).or_fail(format!("could not terminate {}", machine.id))
            }
            _ => Ok(()),
        }
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}
