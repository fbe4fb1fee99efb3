//! What all resources have, and how they are found.

use super::model::{
    Image, Instance, InternetGateway, KeyPair, LaunchTemplate, RouteTable, SecurityGroup, Snapshot,
    Subnet, Volume, Vpc,
};
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::state::State;
use crate::core::phase::Millis;
use crate::core::records::{Record, Table};

/// A resource of a region.
pub(crate) trait Resource: Record + 'static {
    /// What its ids begin with.
    const PREFIX: &'static str;
    /// The error's code where there is none, without `.NotFound`.
    const CODE: &'static str;
    /// The error's code for what is no id, without `.Malformed`.
    const FORM: &'static str;
    /// In messages: `The NOUN ID '…' does not exist`.
    const NOUN: &'static str;
    /// Its type, for tags.
    const TYPE: &'static str;

    fn table(state: &State) -> &Table<Self>;
    fn table_mut(state: &mut State) -> &mut Table<Self>;
    fn id(&self) -> &str;
    fn region(&self) -> &str;
    fn made(&self) -> Millis;
    fn tags(&self) -> &Tags;
    fn tags_mut(&mut self) -> &mut Tags;
    /// Whether it is shown no longer.
    fn is_gone(&self, _call: &Call<'_>) -> bool {
        false
    }
}

macro_rules! resource {
    ($($kind:ty, $table:ident, $prefix:literal, $code:literal, $form:literal, $noun:literal, $type:literal,
        $made:ident $(, $gone:expr)?;)*) => {
        $(impl Resource for $kind {
            const PREFIX: &'static str = $prefix;
            const CODE: &'static str = $code;
            const FORM: &'static str = $form;
            const NOUN: &'static str = $noun;
            const TYPE: &'static str = $type;
            fn table(state: &State) -> &Table<Self> {
                &state.$table
            }
            fn table_mut(state: &mut State) -> &mut Table<Self> {
                &mut state.$table
            }
            fn id(&self) -> &str {
                &self.id
            }
            fn region(&self) -> &str {
                &self.region
            }
            fn made(&self) -> Millis {
                self.$made
            }
            fn tags(&self) -> &Tags {
                &self.tags
            }
            fn tags_mut(&mut self) -> &mut Tags {
                &mut self.tags
            }
            $(fn is_gone(&self, call: &Call<'_>) -> bool {
                let gone: fn(&Self, &Call<'_>) -> bool = $gone;
                gone(self, call)
            })?
        })*

        /// The tags of a resource, whatever its type; `None` where there is none.
        pub(crate) fn tags_of<'a>(call: &'a mut Call<'_>, id: &str) -> Result<&'a mut Tags> {
            let prefix = id.rsplit_once('-').map_or(id, |(prefix, _)| prefix);
            match prefix {
                $($prefix => {
                    find_mut::<$kind>(call, id).map(Resource::tags_mut)
                })*
                _ => Err(AwsError::new("InvalidID", format!("The ID '{id}' is not valid"))),
            }
        }

        /// Type and tags of what an id stands for; no tags where there is none of it, nothing
        /// where it is no id.
        pub(crate) fn described<'a>(
            state: &'a State,
            region: &str,
            id: &str,
        ) -> Option<(&'static str, Option<&'a Tags>)> {
            let (prefix, digits) = id.rsplit_once('-')?;
            if !matches!(digits.len(), 8 | 17) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            match prefix {
                $($prefix => {
                    let found = state.$table.get(&key_of::<$kind>(region, id));
                    Some(($type, found.map(Resource::tags)))
                })*
                _ => None,
            }
        }

        /// Id, type and tags of all resources of the region.
        pub(crate) fn all_tags(call: &Call<'_>) -> Vec<(String, &'static str, Tags)> {
            let mut all = Vec::new();
            $(all.extend(seen::<$kind>(call).filter(|r| !r.tags().is_empty()).map(|r| {
                (r.id().to_owned(), <$kind as Resource>::TYPE, r.tags().clone())
            }));)*
            all
        }
    };
}

resource! {
    Vpc, vpcs, "vpc", "InvalidVpcID", "InvalidVpcID", "vpc", "vpc", created;
    Subnet, subnets, "subnet", "InvalidSubnetID", "InvalidSubnetID", "subnet", "subnet", created;
    SecurityGroup, groups, "sg", "InvalidGroup", "InvalidGroupId", "security group",
        "security-group", created;
    InternetGateway, gateways, "igw", "InvalidInternetGatewayID", "InvalidInternetGatewayID",
        "internetGateway", "internet-gateway", created;
    RouteTable, route_tables, "rtb", "InvalidRouteTableID", "InvalidRouteTableID", "routeTable",
        "route-table", created;
    KeyPair, key_pairs, "key", "InvalidKeyPair", "InvalidKeyPair", "key pair", "key-pair", created;
    Image, images, "ami", "InvalidAMIID", "InvalidAMIID", "image", "image", created;
    Snapshot, snapshots, "snap", "InvalidSnapshot", "InvalidSnapshotID", "snapshot", "snapshot",
        started;
    Volume, volumes, "vol", "InvalidVolume", "InvalidVolumeID", "volume", "volume", created,
        |v, call| v.phase.at(call.now) == super::model::VolumeState::Deleted;
    Instance, instances, "i", "InvalidInstanceID", "InvalidInstanceID", "instance", "instance",
        launched, |i, call| {
            i.phase.at(call.now) == super::model::InstanceState::Terminated
                && i.phase.due().is_some_and(|due| {
                    due.saturating_add(call.settings.durations.terminated_shown) < call.now
                })
        };
    LaunchTemplate, templates, "lt", "InvalidLaunchTemplateId", "InvalidLaunchTemplateId",
        "launch template", "launch-template", created;
}

/// That there is none of this id.
pub(crate) fn missing<T: Resource>(id: &str) -> AwsError {
    let text = format!("The {} ID '{id}' does not exist", T::NOUN);
    AwsError::new(&format!("{}.NotFound", T::CODE), text)
}

/// What is seen of a type in the call's region.
pub(crate) fn seen<'a, T: Resource>(call: &'a Call<'_>) -> impl Iterator<Item = &'a T> {
    T::table(call.state)
        .iter()
        .filter(|r| r.region() == call.region && call.sees(r.made()) && !r.is_gone(call))
}

/// The resource of an id.
pub(crate) fn find<'a, T: Resource>(call: &'a Call<'_>, id: &str) -> Result<&'a T> {
    call.check_id(id, T::PREFIX, T::FORM)?;
    T::table(call.state)
        .get(&key_of::<T>(call.region, id))
        .filter(|r| r.region() == call.region && call.sees(r.made()) && !r.is_gone(call))
        .ok_or_else(|| missing::<T>(id))
}

/// The resource of an id, to be changed.
pub(crate) fn find_mut<'a, T: Resource>(call: &'a mut Call<'_>, id: &str) -> Result<&'a mut T> {
    find::<T>(call, id)?;
    let key = key_of::<T>(call.region, id);
    T::table_mut(call.state).get_mut(&key).ok_or_else(|| missing::<T>(id))
}

/// What a resource is kept under. An image of a fixed id stands in every region.
pub(crate) fn key_of<T: Resource>(region: &str, id: &str) -> String {
    if T::PREFIX == Image::PREFIX { format!("{region}/{id}") } else { id.to_owned() }
}

/// What a call that describes shows: those of `ids`, or all, that pass the filters and `show`.
pub(crate) fn select<T: Resource>(
    call: &Call<'_>,
    ids: &[String],
    show: impl Fn(&T) -> bool,
    values: impl Fn(&T, &str) -> Option<Vec<String>>,
) -> Result<Vec<T>> {
    if !ids.is_empty() && call.params.has("MaxResults") {
        return Err(AwsError::combination(
            "The parameter MaxResults cannot be used with a list of ids",
        ));
    }
    let filters = Filters::of(call.params)?;
    let mut out = Vec::new();
    let mut keep = |resource: &T| -> Result<()> {
        if filters.pass(resource.tags(), |name| values(resource, name))? {
            out.push(resource.clone());
        }
        Ok(())
    };
    if ids.is_empty() {
        for resource in seen::<T>(call).filter(|r| show(r)) {
            keep(resource)?;
        }
    } else {
        for id in ids {
            keep(find::<T>(call, id)?)?;
        }
    }
    Ok(out)
}

/// A filter's values of one text.
pub(crate) fn one(text: impl Into<String>) -> Option<Vec<String>> {
    Some(vec![text.into()])
}

/// A filter's values of a text that may be missing.
pub(crate) fn maybe(text: Option<impl Into<String>>) -> Option<Vec<String>> {
    Some(text.into_iter().map(Into::into).collect())
}
