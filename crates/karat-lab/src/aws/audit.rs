//! What is left over in the account.

use serde::{Deserialize, Serialize};

use super::ec2::model::{ImageState, ImportStage, InstanceState, SnapshotState, VolumeState};
use super::state::State;
use crate::core::phase::Millis;

/// Something that is there and was not from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Where; empty for what has no region.
    pub region: String,
    /// Its type: `instance`, `key-pair`, …
    pub kind: String,
    /// Its id or name.
    pub id: String,
    /// Its name, state or what else tells it apart.
    pub detail: String,
    /// Whether it is an image that can be used, or a snapshot of one.
    pub image: bool,
}

pub(crate) fn leftovers(state: &State, account: &str, now: Millis) -> Vec<Leftover> {
    let mut all = Vec::new();
    let mut add = |region: &str, kind: &str, id: &str, detail: String, image: bool| {
        let (region, kind, id) = (region.to_owned(), kind.to_owned(), id.to_owned());
        all.push(Leftover { region, kind, id, detail, image });
    };
    for i in state.instances.iter() {
        let at = i.phase.at(now);
        if at != InstanceState::Terminated {
            let name = i.tags.get("Name").map(|n| format!(" {n}")).unwrap_or_default();
            add(&i.region, "instance", &i.id, format!("{}{name}", at.as_str()), false);
        }
    }
    for v in state.volumes.iter().filter(|v| v.phase.at(now) != VolumeState::Deleted) {
        add(&v.region, "volume", &v.id, format!("{} GiB", v.ebs.size), false);
    }
    for i in state.images.iter().filter(|i| i.owner == account) {
        let usable = i.phase.at(now) == ImageState::Available;
        let detail = format!("{}{}", i.name, if usable { "" } else { " (not available)" });
        add(&i.region, "image", &i.id, detail, usable);
    }
    for s in state.snapshots.iter().filter(|s| s.owner == account) {
        let complete = s.phase.at(now) == SnapshotState::Completed && s.writing.is_none();
        let used = state.images.iter().any(|i| {
            i.phase.at(now) == ImageState::Available && i.snapshots().any(|id| id == s.id)
        });
        let detail = format!("{} GiB{}", s.size, if complete { "" } else { ", not completed" });
        add(&s.region, "snapshot", &s.id, detail, used && complete);
    }
    for k in state.key_pairs.iter() {
        add(&k.region, "key-pair", &k.id, k.name.clone(), false);
    }
    for g in state.groups.iter().filter(|g| g.name != "default") {
        add(&g.region, "security-group", &g.id, g.name.clone(), false);
    }
    for t in state.templates.iter() {
        add(&t.region, "launch-template", &t.id, t.name.clone(), false);
    }
    for v in state.vpcs.iter().filter(|v| !v.default) {
        add(&v.region, "vpc", &v.id, v.cidr.clone(), false);
    }
    let is_default = |vpc: &str| state.vpcs.get(vpc).is_some_and(|v| v.default);
    for s in state.subnets.iter().filter(|s| !s.default) {
        add(&s.region, "subnet", &s.id, s.cidr.clone(), false);
    }
    for g in state.gateways.iter().filter(|g| !g.vpc.as_deref().is_some_and(is_default)) {
        add(&g.region, "internet-gateway", &g.id, String::new(), false);
    }
    for t in state.route_tables.iter().filter(|t| t.main.is_none()) {
        add(&t.region, "route-table", &t.id, String::new(), false);
    }
    for r in state.roles.iter() {
        add("", "role", &r.name, String::new(), false);
    }
    for p in state.profiles.iter() {
        add("", "instance-profile", &p.name, String::new(), false);
    }
    for u in state.users.iter() {
        add("", "user", &u.name, String::new(), false);
    }
    for p in state.policies.iter() {
        add("", "policy", &p.arn, String::new(), false);
    }
    for k in state.keys.iter().filter(|k| !k.managed && k.deletion.is_none()) {
        add(&k.region, "kms-key", &k.id, k.description.clone(), false);
    }
    for k in state.keys.iter() {
        for grant in k.grants.keys() {
            add(&k.region, "kms-grant", grant, k.id.clone(), false);
        }
    }
    for p in state.parameters.iter() {
        add(&p.region, "parameter", &p.name, String::new(), false);
    }
    for s in state.secrets.iter().filter(|s| s.deletion.is_none()) {
        add(&s.region, "secret", &s.name, String::new(), false);
    }
    for t in state.imports.iter().filter(|t| matches!(t.stage, ImportStage::Active { .. })) {
        add(&t.region, "import-task", &t.id, format!("s3://{}/{}", t.bucket, t.key), false);
    }
    for b in state.buckets.iter() {
        add(&b.region, "bucket", &b.name, String::new(), false);
    }
    let region = |bucket: &str| state.buckets.get(bucket).map(|b| b.region.clone());
    for o in state.objects.iter() {
        let id = format!("s3://{}/{}", o.bucket, o.key);
        add(
            &region(&o.bucket).unwrap_or_default(),
            "object",
            &id,
            format!("{} bytes", o.size),
            false,
        );
    }
    for u in state.uploads.iter() {
        let id = format!("s3://{}/{}", u.bucket, u.key);
        add(&region(&u.bucket).unwrap_or_default(), "upload", &id, u.id.clone(), false);
    }
    all
}
