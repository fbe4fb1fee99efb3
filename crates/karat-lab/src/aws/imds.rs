//! The instance metadata service: what an instance is told about itself at 169.254.169.254.
//!
//! Source: "Access instance metadata for an EC2 instance" and "Instance metadata categories" in
//! Amazon's EC2 user guide.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use karat_machine::runtime::{MetadataAnswer, MetadataRequest, MetadataService};
use serde_json::json;

use super::ec2::model::{Instance, InstanceState};
use super::front::Front;
use super::state::{Credential, State};
use super::sts;
use crate::core::ids;
use crate::core::phase::{Millis, now, rfc3339};

/// Seconds that a token may be asked for.
const LONGEST: i64 = 21_600;
/// How long keys of a role hold, and how long before their end there are new ones.
const KEYS_HOLD: Millis = 6 * 3_600_000;
const KEYS_OVERLAP: Millis = 15 * 60_000;
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Versions of the tree, the oldest first; all of them have the same content here.
const VERSIONS: [&str; 29] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
    "latest",
];

/// The service of one instance.
pub(crate) struct Imds {
    front: Arc<Front>,
    instance: String,
    given: Mutex<Given>,
}

/// What it gave out.
#[derive(Default)]
struct Given {
    /// Tokens, and when they end.
    tokens: BTreeMap<String, Millis>,
    /// A role's name and its keys.
    keys: Option<(String, Credential, Millis)>,
}

impl fmt::Debug for Imds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imds").field("instance", &self.instance).finish_non_exhaustive()
    }
}

fn said(status: u16, body: impl Into<Vec<u8>>) -> MetadataAnswer {
    let headers = vec![("content-type", "text/plain".to_owned()), ("server", "EC2ws".to_owned())];
    MetadataAnswer { status, headers, body: body.into(), hop_limit: None }
}

impl MetadataService for Imds {
    fn answer(&self, request: &MetadataRequest) -> MetadataAnswer {
        let options = {
            let inner = self.front.lock();
            inner.state.instances.get(&self.instance).map(|i| i.metadata.clone())
        };
        let Some(options) = options.filter(|options| options.enabled) else {
            return said(403, "");
        };
        let time = now();
        match request.method.as_str() {
            "PUT" if request.path.trim_end_matches('/') == "/latest/api/token" => {
                // What came through a proxy may not be the instance's own.
                if request.headers.contains_key("x-forwarded-for") {
                    return said(403, "");
                }
                let lasts = request.headers.get(TTL).and_then(|text| text.trim().parse().ok());
                let Some(lasts) = lasts.filter(|lasts| (1..=LONGEST).contains(lasts)) else {
                    return said(400, "");
                };
                let mut answer = said(200, self.token(time, lasts));
                answer.headers.push((TTL, lasts.to_string()));
                answer.hop_limit = u8::try_from(options.hop_limit).ok();
                answer
            }
            "GET" | "HEAD" => {
                let token = request.headers.get(TOKEN);
                // cloud-init looks at the firmware, which machines have not, before it asks for a
                // token: it is let in by its name, which in old ones is that of its library.
                let agent = request.headers.get("user-agent");
                let own = ["Cloud-Init/", "python-requests/"];
                let cloud_init =
                    agent.is_some_and(|name| own.iter().any(|own| name.starts_with(own)));
                if token.is_some_and(|token| !self.knows(token, time))
                    || token.is_none() && options.tokens_required && !cloud_init
                {
                    return said(401, "");
                }
                match self.find(&request.path, time) {
                    Some(body) => said(200, body),
                    None => said(404, ""),
                }
            }
            _ => said(405, ""),
        }
    }
}

impl Imds {
    pub(crate) fn new(front: Arc<Front>, instance: &str) -> Self {
        Self { front, instance: instance.to_owned(), given: Mutex::default() }
    }

    fn given(&self) -> std::sync::MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, time: Millis, seconds: i64) -> String {
        let token = STANDARD.encode(ids::random::<40>());
        let mut given = self.given();
        given.tokens.retain(|_, ends| *ends > time);
        given.tokens.insert(token.clone(), time + seconds * 1000);
        token
    }

    fn knows(&self, token: &str, time: Millis) -> bool {
        self.given().tokens.get(token).is_some_and(|ends| *ends > time)
    }

    fn find(&self, path: &str, time: Millis) -> Option<Vec<u8>> {
        let path = path.trim_start_matches('/');
        if path.is_empty() {
            return Some(VERSIONS.join("\n").into_bytes());
        }
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        VERSIONS.contains(&version).then_some(())?;
        let rest = rest.trim_end_matches('/');
        if let Some(role) = rest.strip_prefix("meta-data/iam/security-credentials/") {
            return self.keys(role, time).map(String::into_bytes);
        }
        let inner = self.front.lock();
        let instance = inner.state.instances.get(&self.instance)?;
        if rest == "user-data" {
            return STANDARD.decode(instance.user_data.as_deref()?).ok();
        }
        let mut tree = tree(&inner.state, instance, &self.front.settings.account, time);
        if let Some(at) = inner.interruptions.get(&self.instance) {
            let at = whole_seconds(*at);
            let action = json!({ "action": "terminate", "time": at }).to_string();
            tree.insert("meta-data/spot/instance-action".into(), action);
            tree.insert("meta-data/spot/termination-time".into(), at);
        }
        drop(inner);
        tree.get(rest).map(|text| text.clone().into_bytes()).or_else(|| list(&tree, rest))
    }

    /// The keys of the instance's role.
    fn keys(&self, asked: &str, time: Millis) -> Option<String> {
        let mut inner = self.front.lock();
        let instance = inner.state.instances.get(&self.instance)?;
        let (name, id, _) = role(&inner.state, instance)?;
        if name != asked {
            return None;
        }
        let mut given = self.given();
        let fresh = |made: &Millis| time < made + KEYS_HOLD - KEYS_OVERLAP;
        let known = given.keys.clone().filter(|(of, _, made)| *of == name && fresh(made));
        let (_, key, made) = match known {
            Some(known) => known,
            None => {
                let account = &self.front.settings.account;
                let arn = format!("arn:aws:sts::{account}:assumed-role/{name}/{}", self.instance);
                let id = format!("{id}:{}", self.instance);
                let key = sts::temporary_in(&mut inner.state, arn, id, time + KEYS_HOLD);
                inner.commit().ok()?;
                given.keys = Some((name.clone(), key.clone(), time));
                (name, key, time)
            }
        };
        let shown = json!({
            "Code": "Success",
            "LastUpdated": whole_seconds(made),
            "Type": "AWS-HMAC",
            "AccessKeyId": key.access_key,
            "SecretAccessKey": key.secret,
            "Token": key.token,
            "Expiration": key.expires.map(whole_seconds),
        });
        serde_json::to_string_pretty(&shown).ok()
    }
}

/// Name and id of the role that an instance has, and the id of the profile.
fn role(state: &State, instance: &Instance) -> Option<(String, String, String)> {
    let profile = state.profiles.get(instance.profile.as_deref()?)?;
    let role = state.roles.get(profile.role.as_deref()?)?;
    Some((role.name.clone(), role.id.clone(), profile.id.clone()))
}

fn whole_seconds(time: Millis) -> String {
    rfc3339(time / 1000 * 1000).replace(".000Z", "Z")
}

/// All paths below a version, and what they answer.
fn tree(state: &State, i: &Instance, account: &str, time: Millis) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |path: &str, text: &str| {
        all.insert(format!("meta-data/{path}"), text.to_owned());
    };
    let domain = match i.region.as_str() {
        "us-east-1" => "ec2.internal".to_owned(),
        region => format!("{region}.compute.internal"),
    };
    let private_name = format!("ip-{}.{domain}", i.private_address.replace('.', "-"));
    let groups: Vec<String> =
        i.groups.iter().filter_map(|g| Some(state.groups.get(g)?.name.clone())).collect();
    put("ami-id", &i.image);
    put("ami-launch-index", &i.index.to_string());
    put("ami-manifest-path", "(unknown)");
    put("block-device-mapping/ami", i.root_device.trim_start_matches("/dev/"));
    put("block-device-mapping/root", &i.root_device);
    put("hostname", &private_name);
    put("instance-action", "none");
    put("instance-id", &i.id);
    put("instance-life-cycle", if i.spot.is_some() { "spot" } else { "on-demand" });
    put("instance-type", &i.kind);
    put("local-hostname", &private_name);
    put("local-ipv4", &i.private_address);
    put("mac", &i.mac);
    put("placement/availability-zone", &i.zone);
    put("placement/availability-zone-id", &super::ec2::zone_id(&i.zone));
    put("placement/region", &i.region);
    put("profile", "default-hvm");
    put("reservation-id", &i.reservation);
    put("security-groups", &groups.join("\n"));
    put("services/domain", "amazonaws.com");
    put("services/partition", "aws");
    if let Some(public) = &i.public_address {
        put("public-hostname", public);
        put("public-ipv4", public);
    }
    let key = i
        .key_name
        .as_deref()
        .and_then(|name| state.key_pairs.iter().find(|k| k.region == i.region && k.name == name));
    if let Some(key) = key {
        put("public-keys/0/openssh-key", &key.public);
        // How Amazon lists it; not a path of its own.
        all.insert("meta-data/public-keys".into(), format!("0={}", key.name));
    }
    interface(state, i, account, &private_name, &groups, &mut all);
    if i.metadata.tags {
        for (name, value) in &i.tags {
            all.insert(format!("meta-data/tags/instance/{name}"), value.clone());
        }
    }
    if let Some((name, _, profile_id)) = role(state, i) {
        let path = i.profile.as_deref().and_then(|p| state.profiles.get(p)).map(|p| &p.path);
        let profile = i.profile.as_deref().unwrap_or_default();
        let info = json!({
            "Code": "Success",
            "LastUpdated": whole_seconds(i.launched),
            "InstanceProfileArn": format!(
                "arn:aws:iam::{account}:instance-profile{}{profile}",
                path.map_or("/", String::as_str)
            ),
            "InstanceProfileId": profile_id,
        });
        all.insert("meta-data/iam/info".into(), info.to_string());
        // Answered elsewhere; here so that it is listed.
        all.insert(format!("meta-data/iam/security-credentials/{name}"), String::new());
    }
    if i.phase.at(time) != InstanceState::Terminated {
        all.insert("dynamic/instance-identity/document".into(), document(i, account));
    }
    if i.user_data.is_some() {
        all.insert("user-data".into(), String::new());
    }
    all
}

fn interface(
    state: &State,
    i: &Instance,
    account: &str,
    private_name: &str,
    groups: &[String],
    all: &mut BTreeMap<String, String>,
) {
    let base = format!("meta-data/network/interfaces/macs/{}", i.mac);
    let mut put = |path: &str, text: &str| {
        all.insert(format!("{base}/{path}"), text.to_owned());
    };
    put("device-number", "0");
    put("interface-id", &i.interface);
    put("local-hostname", private_name);
    put("local-ipv4s", &i.private_address);
    put("mac", &i.mac);
    put("owner-id", account);
    put("security-group-ids", &i.groups.join("\n"));
    put("security-groups", &groups.join("\n"));
    put("subnet-id", &i.subnet);
    put("vpc-id", &i.vpc);
    if let Some(subnet) = state.subnets.get(&i.subnet) {
        put("subnet-ipv4-cidr-block", &subnet.cidr);
    }
    if let Some(vpc) = state.vpcs.get(&i.vpc) {
        put("vpc-ipv4-cidr-block", &vpc.cidr);
        put("vpc-ipv4-cidr-blocks", &vpc.cidr);
    }
    if let Some(public) = &i.public_address {
        put("public-hostname", public);
        put("public-ipv4s", public);
    }
}

/// The instance identity document. Nobody signs it here.
fn document(i: &Instance, account: &str) -> String {
    let document = json!({
        "accountId": account,
        "architecture": i.architecture,
        "availabilityZone": i.zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": i.image,
        "instanceId": i.id,
        "instanceType": i.kind,
        "kernelId": null,
        "pendingTime": whole_seconds(i.launched),
        "privateIp": i.private_address,
        "ramdiskId": null,
        "region": i.region,
        "version": "2017-09-30",
    });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// What is in a folder: its names, those of folders with a slash.
fn list(tree: &BTreeMap<String, String>, folder: &str) -> Option<Vec<u8>> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let names: BTreeSet<String> = tree
        .keys()
        .filter_map(|path| path.strip_prefix(&prefix))
        .map(|rest| match rest.split_once('/') {
            // Amazon's top level has no slashes.
            Some((name, _)) if folder.is_empty() => name.to_owned(),
            Some((name, _)) => format!("{name}/"),
            None if rest == "public-keys" => format!("{rest}/"),
            None => rest.to_owned(),
        })
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| names.join("\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_listed_as_amazon_does() {
        let paths = [
            "user-data",
            "meta-data/mac",
            "meta-data/placement/region",
            "meta-data/public-keys",
            "meta-data/public-keys/0/openssh-key",
        ];
        let tree: BTreeMap<String, String> =
            paths.iter().map(|path| ((*path).to_owned(), String::new())).collect();
        let shown = |folder: &str| String::from_utf8(list(&tree, folder).unwrap()).unwrap();
        assert_eq!(shown(""), "meta-data\nuser-data");
        assert_eq!(shown("meta-data"), "mac\nplacement/\npublic-keys/");
        assert_eq!(shown("meta-data/public-keys/0"), "openssh-key");
        assert!(list(&tree, "nothing").is_none());
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(whole_seconds(1_700_000_000_123), "2023-11-14T22:13:20Z");
    }
}
