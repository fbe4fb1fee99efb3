//! All records of the account.

use std::collections::BTreeMap;

use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::ec2::model::{
    Image, ImportTask, Instance, InternetGateway, KeyPair, LaunchTemplate, RouteTable,
    SecurityGroup, Snapshot, Subnet, Volume, Vpc,
};
use super::filters::Tags;
use crate::core::phase::Millis;
use crate::core::records::{Database, DatabaseError, Record, Table};

macro_rules! state {
    ($($name:ident: $kind:ty),* $(,)?) => {
        /// The tables.
        #[derive(Debug, Default)]
        pub(crate) struct State {
            $(pub(crate) $name: Table<$kind>,)*
        }

        impl State {
            pub(crate) fn load(database: &Database) -> Result<Self, DatabaseError> {
                Ok(Self { $($name: Table::load(database)?,)* })
            }

            pub(crate) fn commit(&mut self, to: &Transaction<'_>) -> Result<(), DatabaseError> {
                $(self.$name.commit(to)?;)*
                Ok(())
            }

            pub(crate) fn settle(&mut self) {
                $(self.$name.settle();)*
            }

            pub(crate) fn rollback(&mut self) {
                $(self.$name.rollback();)*
            }
        }
    };
}

state! {
    vpcs: Vpc,
    subnets: Subnet,
    groups: SecurityGroup,
    gateways: InternetGateway,
    route_tables: RouteTable,
    key_pairs: KeyPair,
    images: Image,
    snapshots: Snapshot,
    volumes: Volume,
    instances: Instance,
    templates: LaunchTemplate,
    imports: ImportTask,
    buckets: Bucket,
    objects: Object,
    uploads: Upload,
    regions: RegionSettings,
    credentials: Credential,
    roles: Role,
    users: User,
    policies: ManagedPolicy,
    profiles: Profile,
    keys: KmsKey,
    aliases: KmsAlias,
    parameters: Parameter,
    secrets: Secret,
    answers: Answered,
}

/// What is set for a region, and that its default network has been made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RegionSettings {
    pub(crate) region: String,
    pub(crate) encrypt: bool,
    pub(crate) default_key: Option<String>,
}

/// Access key, and whom it stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Credential {
    pub(crate) access_key: String,
    pub(crate) secret: String,
    #[serde(default)]
    pub(crate) token: Option<String>,
    pub(crate) arn: String,
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) expires: Option<Millis>,
}

/// An IAM role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) trust: String,
    pub(crate) description: Option<String>,
    pub(crate) max_session: u32,
    pub(crate) created: Millis,
    pub(crate) policies: BTreeMap<String, String>,
    pub(crate) attached: Vec<String>,
    pub(crate) tags: Tags,
}

/// An IAM user beside the one that the lab's own key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) created: Millis,
    pub(crate) policies: BTreeMap<String, String>,
    pub(crate) attached: Vec<String>,
    /// Access keys, and when they were made.
    pub(crate) keys: BTreeMap<String, Millis>,
    pub(crate) tags: Tags,
}

/// A policy that stands by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManagedPolicy {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) description: Option<String>,
    pub(crate) created: Millis,
    pub(crate) document: String,
    pub(crate) tags: Tags,
}

/// An instance profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) created: Millis,
    /// When its role was put in or taken out.
    pub(crate) changed: Millis,
    pub(crate) role: Option<String>,
    pub(crate) tags: Tags,
}

/// A KMS key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KmsKey {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) arn: String,
    pub(crate) description: String,
    pub(crate) created: Millis,
    /// Made and held by AWS.
    pub(crate) managed: bool,
    pub(crate) enabled: bool,
    pub(crate) deletion: Option<Millis>,
    /// 32 bytes, as hexadecimal digits.
    pub(crate) material: String,
    pub(crate) grants: BTreeMap<String, serde_json::Value>,
    pub(crate) tags: Tags,
}

/// Another name of a KMS key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KmsAlias {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) key: String,
    pub(crate) created: Millis,
}

/// A parameter of Systems Manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) kind: String,
    /// All versions, the oldest first: value and when it was set.
    pub(crate) values: Vec<(String, Millis)>,
    pub(crate) labels: BTreeMap<String, usize>,
    pub(crate) key: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) tags: Tags,
}

/// A secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) arn: String,
    pub(crate) description: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) created: Millis,
    pub(crate) changed: Millis,
    pub(crate) deletion: Option<Millis>,
    pub(crate) versions: Vec<SecretVersion>,
    pub(crate) tags: Tags,
}

/// A version of a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SecretVersion {
    pub(crate) id: String,
    pub(crate) created: Millis,
    pub(crate) text: Option<String>,
    /// Base64.
    pub(crate) binary: Option<String>,
    pub(crate) stages: Vec<String>,
}

/// A bucket of S3.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) created: Millis,
}

/// Bytes of an object, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) file: String,
    pub(crate) size: u64,
}

/// An object of S3.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) etag: String,
    pub(crate) size: u64,
    /// Its bytes, one after the other.
    pub(crate) blobs: Vec<Blob>,
    pub(crate) modified: Millis,
    /// What is given back with it.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) encryption: BTreeMap<String, String>,
    /// In which upload its parts came.
    pub(crate) upload: Option<String>,
}

/// An object that comes in parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) started: Millis,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) encryption: BTreeMap<String, String>,
    pub(crate) parts: BTreeMap<u32, UploadedPart>,
}

/// A part of an object that comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UploadedPart {
    pub(crate) etag: String,
    pub(crate) blob: Blob,
}

/// The answer to a request with a client token, given again when it is asked again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Call, region and token.
    pub(crate) key: String,
    /// What was asked.
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) made: Millis,
}

macro_rules! record {
    ($($kind:ty => $name:literal, |$record:ident| $key:expr;)*) => {$(
        impl Record for $kind {
            const KIND: &'static str = $name;
            fn key(&self) -> String {
                let $record = self;
                $key
            }
        }
    )*};
}

record! {
    Vpc => "vpc", |r| r.id.clone();
    Subnet => "subnet", |r| r.id.clone();
    SecurityGroup => "security-group", |r| r.id.clone();
    InternetGateway => "internet-gateway", |r| r.id.clone();
    RouteTable => "route-table", |r| r.id.clone();
    KeyPair => "key-pair", |r| r.id.clone();
    Image => "image", |r| format!("{}/{}", r.region, r.id);
    Snapshot => "snapshot", |r| r.id.clone();
    Volume => "volume", |r| r.id.clone();
    Instance => "instance", |r| r.id.clone();
    LaunchTemplate => "launch-template", |r| r.id.clone();
    ImportTask => "import-task", |r| r.id.clone();
    Bucket => "bucket", |r| r.name.clone();
    Object => "object", |r| format!("{}/{}", r.bucket, r.key);
    Upload => "upload", |r| r.id.clone();
    RegionSettings => "region", |r| r.region.clone();
    Credential => "credential", |r| r.access_key.clone();
    Role => "role", |r| r.name.clone();
    User => "user", |r| r.name.clone();
    ManagedPolicy => "policy", |r| r.arn.clone();
    Profile => "instance-profile", |r| r.name.clone();
    KmsKey => "kms-key", |r| format!("{}/{}", r.region, r.id);
    KmsAlias => "kms-alias", |r| format!("{}/{}", r.region, r.name);
    Parameter => "parameter", |r| format!("{}/{}", r.region, r.name);
    Secret => "secret", |r| format!("{}/{}", r.region, r.name);
    Answered => "answered", |r| r.key.clone();
}
