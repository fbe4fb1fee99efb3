//! The least policy of IAM that builds need, from the steps that they are made of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::ebs::{BUILD_TAG, TOKEN_TAG, is_small};

/// Which of the things that a call touches a permission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    /// Whatever there is: calls that only look.
    Anything,
    /// What is made and has the build's tags from the call on that makes it.
    Made,
    /// What a build made before.
    Own,
    /// What others made, which the call uses.
    Others,
    /// What has a build's name, where there are no tags to go by.
    Named,
}

/// The permissions of some builds, gathered.
#[derive(Debug, Default)]
pub struct Policy {
    partition: Option<&'static str>,
    grants: BTreeMap<(On, BTreeSet<String>), BTreeSet<String>>,
    creators: BTreeSet<String>,
    keys: BTreeSet<String>,
    /// Buckets that disks are brought to, and keys that they are encrypted with there.
    buckets: BTreeSet<String>,
    bucket_keys: BTreeSet<String>,
    passes_any_role: bool,
    sessions: bool,
}

impl Policy {
    /// Takes in a step of a build: its kind, and what is stored of it. Steps that AWS has nothing
    /// to do with change nothing.
    pub fn step(&mut self, kind: &str, params: &Value) {
        if !kind.starts_with("aws.") {
            return;
        }
        let access = &params["scope"]["access"];
        if access["region"].as_str().is_some_and(|r| r.starts_with("cn-")) {
            self.partition = Some("aws-cn");
        } else if access["region"].as_str().is_some_and(|r| r.starts_with("us-gov-")) {
            self.partition = Some("aws-us-gov");
        }
        if access["decode_refusals"] == true {
            self.look("sts", &["DecodeAuthorizationMessage"]);
        }
        match kind {
            "aws.preflight" => self.preflight(params),
            "aws.source" => self.look("ec2", &["DescribeImages"]),
            "aws.network" => {
                let all = ["DescribeSubnets", "DescribeVpcs", "DescribeSecurityGroups"];
                self.look("ec2", &all);
            }
            "aws.find-profile" => {
                self.look("iam", &["GetInstanceProfile"]);
                self.passes_any_role = true;
            }
            "aws.key" => {
                self.look("ec2", &["DescribeKeyPairs"]);
                self.make("CreateKeyPair", &["key-pair"]);
                self.own(&["DeleteKeyPair"], &["key-pair"]);
            }
            "aws.group" => {
                self.look("ec2", &["DescribeSecurityGroups"]);
                self.make("CreateSecurityGroup", &["security-group"]);
                self.grant(On::Others, &["ec2:CreateSecurityGroup"], &["vpc"]);
                self.own(&["DeleteSecurityGroup"], &["security-group"]);
            }
            "aws.ingress" => self.own(&["AuthorizeSecurityGroupIngress"], &["security-group"]),
            "aws.profile" => self.profile(),
            "aws.instance" => self.instance(params),
            "aws.template" => {
                self.look("ec2", &["DescribeLaunchTemplates"]);
                self.make("CreateLaunchTemplate", &["launch-template"]);
                self.own(&["DeleteLaunchTemplate"], &["launch-template"]);
            }
            "aws.keep-volumes" => {
                self.look("ec2", &["DescribeVolumes"]);
                self.own(&["DeleteVolume"], &["volume"]);
            }
            "aws.here" => self.look("ec2", &["DescribeInstances"]),
            "aws.root-volume" => {
                self.look("ec2", &["DescribeVolumes"]);
                self.make("CreateVolume", &["volume"]);
                if params["volume"]["empty"] != true {
                    self.grant(On::Others, &["ec2:CreateVolume"], &["snapshot"]);
                }
                self.own(&["DeleteVolume"], &["volume"]);
            }
            "aws.attach" => {
                self.look("ec2", &["DescribeVolumes"]);
                self.own(&["AttachVolume", "DetachVolume"], &["volume"]);
                // The machine that the program runs on is no build's.
                let both = ["ec2:AttachVolume", "ec2:DetachVolume"];
                self.grant(On::Others, &both, &["instance"]);
            }
            "aws.provision" => self.provision(params),
            "aws.stop" => {
                self.look("ec2", &["DescribeInstances"]);
                if params["stops_itself"] != true {
                    self.own(&["StopInstances"], &["instance"]);
                }
                if params["sriov"] == true || !params["ena"].is_null() {
                    self.own(&["ModifyInstanceAttribute"], &["instance"]);
                }
            }
            "aws.release" => self.own(&["TerminateInstances"], &["instance"]),
            "aws.image" => {
                self.make("CreateImage", &["image", "snapshot"]);
                self.grant(On::Own, &["ec2:CreateImage"], &["instance"]);
                self.image_of_own();
            }
            "aws.snapshots" | "aws.volumes" => {
                self.look("ec2", &["DescribeSnapshots", "DescribeInstances"]);
                self.make("CreateSnapshot", &["snapshot"]);
                self.grant(On::Own, &["ec2:CreateSnapshot"], &["volume"]);
                self.own(&["DeleteSnapshot"], &["snapshot"]);
                if kind == "aws.volumes" {
                    self.own(&["CreateTags", "DeleteTags"], &["volume"]);
                    self.own(&["ModifySnapshotAttribute"], &["snapshot"]);
                }
            }
            "aws.swap" => {
                self.look("ec2", &["DescribeInstances", "DescribeVolumes"]);
                self.own(&["AttachVolume", "DetachVolume"], &["instance", "volume"]);
                self.own(&["ModifyInstanceAttribute"], &["instance"]);
            }
            "aws.register" => {
                self.make("RegisterImage", &["image"]);
                self.grant(On::Own, &["ec2:RegisterImage"], &["snapshot"]);
                self.image_of_own();
            }
            "aws.copy" => {
                self.make("CopyImage", &["image", "snapshot"]);
                self.grant(On::Own, &["ec2:CopyImage"], &["image"]);
                self.image_of_own();
            }
            "aws.publish" => self.publish(&params["image"]),
            "aws.retire" => {
                self.look("ec2", &["DescribeImageAttribute", "DescribeImages"]);
                // What is replaced is not a build's own.
                let old = ["ec2:DeregisterImage", "ec2:ModifyImageAttribute", "ec2:RegisterImage"];
                self.grant(On::Others, &old, &["image", "snapshot"]);
                self.creators.insert("RegisterImage".to_owned());
            }
            "aws.fast-launch-templates" => self.look("ec2", &["DescribeLaunchTemplates"]),
            "aws.fast-launch" => {
                self.look("ec2", &["DescribeFastLaunchImages"]);
                self.own(&["DisableFastLaunch", "EnableFastLaunch"], &["image"]);
                // AWS prepares the machines in the caller's name.
                let prepares = ["ec2:CreateSnapshot", "ec2:RunInstances"];
                let what = ["image", "instance", "launch-template", "snapshot", "volume"];
                self.grant(On::Others, &prepares, &what);
            }
            "aws.old-snapshots" => {
                self.grant(On::Others, &["ec2:DeleteSnapshot"], &["snapshot"]);
            }
            "aws.import-disk" => self.import_disk(params),
            "aws.import-upload" => self.import_upload(params),
            "aws.import-task" => {
                self.look("ec2", &["DescribeImages", "DescribeImportImageTasks"]);
                self.make("ImportImage", &["import-image-task"]);
                self.own(&["CancelImportTask"], &["import-image-task"]);
                // What a task makes has none of the build's tags.
                let raw = ["ec2:DeleteSnapshot", "ec2:DeregisterImage", "ec2:ImportImage"];
                self.grant(On::Others, &raw, &["image", "snapshot"]);
                self.take_key(&params["key"]);
            }
            "aws.import-publish" => self.import_publish(params),
            _ => {}
        }
    }

    /// Takes in a data source of a template.
    pub fn data_source(&mut self, kind: &str) {
        match kind {
            "amazon-ami" => self.look("ec2", &["DescribeImages"]),
            "amazon-parameterstore" => self.look("ssm", &["GetParameter"]),
            "amazon-secretsmanager" => self.look("secretsmanager", &["GetSecretValue"]),
            _ => {}
        }
    }

    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    fn grant(&mut self, on: On, actions: &[&str], resources: &[&str]) {
        let resources: BTreeSet<String> = resources.iter().map(|r| (*r).to_owned()).collect();
        let all = self.grants.entry((on, resources)).or_default();
        all.extend(actions.iter().map(|a| (*a).to_owned()));
    }

    fn look(&mut self, service: &str, actions: &[&str]) {
        let actions: Vec<String> = actions.iter().map(|a| format!("{service}:{a}")).collect();
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        self.grant(On::Anything, &actions, &[]);
    }

    /// A call that makes something and tags it at once.
    fn make(&mut self, action: &str, resources: &[&str]) {
        self.grant(On::Made, &[&format!("ec2:{action}")], resources);
        self.creators.insert(action.to_owned());
    }

    fn own(&mut self, actions: &[&str], resources: &[&str]) {
        let actions: Vec<String> = actions.iter().map(|a| format!("ec2:{a}")).collect();
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        self.grant(On::Own, &actions, resources);
    }

    fn image_of_own(&mut self) {
        self.look("ec2", &["DescribeImages", "DescribeSnapshots"]);
        self.own(&["CreateTags", "DeregisterImage"], &["image"]);
        self.own(&["DeleteSnapshot"], &["snapshot"]);
    }

    fn import_disk(&mut self, params: &Value) {
        self.look("ec2", &["DescribeImages", "DescribeSnapshots"]);
        self.grant(On::Made, &["ebs:StartSnapshot"], &["snapshot"]);
        self.grant(On::Own, &["ebs:CompleteSnapshot", "ebs:PutSnapshotBlock"], &["snapshot"]);
        self.make("RegisterImage", &["image"]);
        self.grant(On::Own, &["ec2:RegisterImage"], &["snapshot"]);
        self.own(&["DeleteSnapshot"], &["snapshot"]);
        self.own(&["DeregisterImage"], &["image"]);
        if is_shared(&params["shared"]) {
            self.own(&["ModifyImageAttribute"], &["image"]);
        }
        self.take_key(&params["import"]["key"]);
    }

    fn import_upload(&mut self, params: &Value) {
        if params["name"].as_str().is_some_and(|name| !name.is_empty()) {
            self.look("ec2", &["DescribeImages"]);
        }
        let bucket = &params["bucket"];
        self.buckets.extend(bucket["name"].as_str().map(str::to_owned));
        let key = bucket["encryption_key"].as_str().filter(|key| !key.is_empty());
        self.bucket_keys.extend(key.map(str::to_owned));
    }

    fn import_publish(&mut self, params: &Value) {
        let import = &params["import"];
        let described = import["description"].as_str().is_some_and(|text| !text.is_empty());
        let changes = params["imds"] == true || is_shared(&params["shared"]);
        if params["renamed"] == true {
            self.look("ec2", &["DescribeImages", "DescribeSnapshots"]);
            self.make("CopyImage", &["image", "snapshot"]);
            self.grant(On::Others, &["ec2:CopyImage"], &["image"]);
            self.own(&["DeleteSnapshot"], &["snapshot"]);
            self.own(&["DeregisterImage"], &["image"]);
            if changes {
                self.own(&["ModifyImageAttribute"], &["image"]);
            }
        } else {
            if import["tags"].as_object().is_some_and(|tags| !tags.is_empty()) {
                self.grant(On::Others, &["ec2:CreateTags"], &["image", "snapshot"]);
            }
            if changes || described {
                self.grant(On::Others, &["ec2:ModifyImageAttribute"], &["image"]);
            }
        }
        self.take_key(&import["key"]);
    }

    fn take_key(&mut self, key: &Value) {
        self.keys.extend(key.as_str().filter(|key| !key.is_empty()).map(str::to_owned));
    }

    fn preflight(&mut self, params: &Value) {
        let several = params["kinds"].as_array().into_iter().flatten();
        let kinds = std::iter::once(&params["kind"]).chain(several).filter_map(Value::as_str);
        let kinds: Vec<&str> = kinds.filter(|kind| !kind.is_empty()).collect();
        if !kinds.is_empty() {
            self.look("ec2", &["DescribeInstanceTypeOfferings"]);
        }
        if !kinds.is_empty() && !kinds.into_iter().any(is_small) {
            self.look("ec2", &["DescribeInstanceTypes", "DescribeInstances"]);
            self.look("servicequotas", &["GetServiceQuota"]);
        }
        if params["makes_image"] == true {
            self.look("ec2", &["DescribeImages"]);
            let copies = params["regions"].as_array().is_some_and(|r| !r.is_empty());
            if copies && params["check_regions"] == true {
                self.look("ec2", &["DescribeRegions"]);
            }
        }
        let keys = params["region_keys"].as_object();
        let keys = keys.into_iter().flat_map(|keys| keys.values()).chain([&params["key"]]);
        self.keys
            .extend(keys.filter_map(Value::as_str).filter(|k| !k.is_empty()).map(str::to_owned));
    }

    fn profile(&mut self) {
        let role = [
            "iam:CreateRole",
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:PutRolePolicy",
            "iam:TagRole",
        ];
        self.grant(On::Named, &role, &["role"]);
        let profile = [
            "iam:AddRoleToInstanceProfile",
            "iam:CreateInstanceProfile",
            "iam:DeleteInstanceProfile",
            "iam:RemoveRoleFromInstanceProfile",
            "iam:TagInstanceProfile",
        ];
        self.grant(On::Named, &profile, &["instance-profile"]);
    }

    fn instance(&mut self, params: &Value) {
        self.look("ec2", &["DescribeInstances", "DescribeVolumes"]);
        let mut used = vec!["image", "network-interface", "security-group", "snapshot", "subnet"];
        if params["launch"]["spot"].is_null() {
            self.make("RunInstances", &["instance", "volume"]);
        } else {
            self.make("CreateFleet", &["fleet"]);
            self.make("RunInstances", &["instance", "spot-instances-request", "volume"]);
            self.grant(On::Own, &["ec2:CreateFleet"], &["launch-template"]);
            used.push("launch-template");
        }
        used.push("key-pair");
        let launch = &params["launch"];
        if !launch["reservation"]["id"].as_str().unwrap_or_default().is_empty() {
            used.push("capacity-reservation");
        }
        self.grant(On::Others, &["ec2:RunInstances"], &used);
        self.own(&["TerminateInstances"], &["instance"]);
        self.own(&["DeleteVolume"], &["volume"]);
        if launch["profile"].as_str().is_some_and(|p| !p.is_empty()) {
            self.passes_any_role = true;
        }
    }

    fn provision(&mut self, params: &Value) {
        if params["connects"] != true {
            return;
        }
        match (params["by_winrm"] == true, params["asks_password"] == true) {
            (true, true) => self.own(&["GetPasswordData"], &["instance"]),
            (true, false) => {}
            // The machine prints its host keys there.
            (false, _) => self.own(&["GetConsoleOutput"], &["instance"]),
        }
        self.sessions |= params["interface"] == "SessionManager";
    }

    fn publish(&mut self, image: &Value) {
        let some = |name: &str| is_some(image, name);
        self.look("ec2", &["DescribeSnapshots"]);
        self.own(&["CreateTags"], &["snapshot"]);
        let imds = image["imds"].as_str().is_some_and(|t| !t.is_empty());
        if imds || is_shared(image) {
            self.own(&["ModifyImageAttribute"], &["image"]);
        }
        if some("snapshot_users") || some("snapshot_groups") {
            self.own(&["ModifySnapshotAttribute"], &["snapshot"]);
        }
        if !image["deprecate_at"].is_null() {
            self.own(&["EnableImageDeprecation"], &["image"]);
        }
        if !image["protect"].is_null() {
            let both =
                ["DisableImageDeregistrationProtection", "EnableImageDeregistrationProtection"];
            self.own(&both, &["image"]);
        }
    }

    /// The policy as a document of IAM.
    #[must_use]
    pub fn document(&self) -> Value {
        let partition = self.partition.unwrap_or("aws");
        let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        let mut statements = Vec::new();
        let mut numbers: BTreeMap<On, u32> = BTreeMap::new();
        for ((on, kinds), actions) in &self.grants {
            let number = numbers.entry(*on).or_default();
            *number += 1;
            let (word, condition) = match on {
                On::Anything => ("Look", None),
                On::Made => {
                    let tag = format!("aws:RequestTag/{TOKEN_TAG}");
                    ("Make", Some(json!({ "StringLike": { tag: "*" } })))
                }
                On::Own => {
                    let tag = format!("aws:ResourceTag/{TOKEN_TAG}");
                    ("Own", Some(json!({ "StringLike": { tag: "*" } })))
                }
                On::Others => ("Use", None),
                On::Named => ("Named", None),
            };
            let resources: Vec<String> = match on {
                On::Anything => vec!["*".to_owned()],
                On::Named => {
                    kinds.iter().map(|k| format!("arn:{partition}:iam::*:{k}/karat-*")).collect()
                }
                _ => kinds.iter().map(|k| format!("arn:{partition}:ec2:*:*:{k}/*")).collect(),
            };
            let mut statement = json!({
                "Sid": format!("{word}{number}"),
                "Effect": "Allow",
                "Action": actions,
                "Resource": resources,
            });
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            statements.push(statement);
        }
        if !self.creators.is_empty() {
            statements.push(json!({
                "Sid": "TagWhatIsMade",
                "Effect": "Allow",
                "Action": "ec2:CreateTags",
                "Resource": format!("arn:{partition}:ec2:*:*:*/*"),
                "Condition": { "StringEquals": { "ec2:CreateAction": self.creators } },
            }));
        }
        let named = self.grants.keys().any(|(on, _)| *on == On::Named);
        if named || self.passes_any_role {
            let role = if self.passes_any_role { "*" } else { "karat-*" };
            statements.push(json!({
                "Sid": "GiveRole",
                "Effect": "Allow",
                "Action": "iam:PassRole",
                "Resource": format!("arn:{partition}:iam::*:role/{role}"),
                "Condition": { "StringEquals": { "iam:PassedToService": format!("ec2.{domain}") } },
            }));
        }
        if self.sessions {
            self.add_sessions(partition, &mut statements);
        }
        if !self.keys.is_empty() {
            self.add_keys(partition, &mut statements);
        }
        if !self.buckets.is_empty() {
            self.add_buckets(partition, &mut statements);
        }
        json!({ "Version": "2012-10-17", "Statement": statements })
    }

    fn add_sessions(&self, partition: &str, statements: &mut Vec<Value>) {
        let tag = format!("ssm:resourceTag/{BUILD_TAG}");
        statements.push(json!({
            "Sid": "BeginSession",
            "Effect": "Allow",
            "Action": "ssm:StartSession",
            "Resource": format!("arn:{partition}:ec2:*:*:instance/*"),
            "Condition": { "StringLike": { tag: "*" } },
        }));
        statements.push(json!({
            "Sid": "BeginSessionToPort",
            "Effect": "Allow",
            "Action": "ssm:StartSession",
            "Resource": format!("arn:{partition}:ssm:*::document/AWS-StartPortForwardingSession"),
        }));
        statements.push(json!({
            "Sid": "OwnSessions",
            "Effect": "Allow",
            "Action": ["ssm:ResumeSession", "ssm:TerminateSession"],
            "Resource": format!("arn:{partition}:ssm:*:*:session/${{aws:userid}}-*"),
        }));
    }

    fn add_buckets(&self, partition: &str, statements: &mut Vec<Value>) {
        let all = |ending: &str| -> Vec<String> {
            self.buckets.iter().map(|name| format!("arn:{partition}:s3:::{name}{ending}")).collect()
        };
        statements.push(json!({
            "Sid": "BringDisks",
            "Effect": "Allow",
            "Action": ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:PutObject"],
            "Resource": all("/*"),
        }));
        // What was begun before an answer was lost is found there.
        statements.push(json!({
            "Sid": "OwnUploads",
            "Effect": "Allow",
            "Action": "s3:ListBucketMultipartUploads",
            "Resource": all(""),
        }));
        if !self.bucket_keys.is_empty() {
            statements.push(json!({
                "Sid": "EncryptInBuckets",
                "Effect": "Allow",
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": key_arns(&self.bucket_keys, partition),
            }));
        }
    }

    fn add_keys(&self, partition: &str, statements: &mut Vec<Value>) {
        let resources = key_arns(&self.keys, partition);
        let use_keys = [
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ];
        statements.push(json!({
            "Sid": "Encrypt",
            "Effect": "Allow",
            "Action": use_keys,
            "Resource": resources,
        }));
        statements.push(json!({
            "Sid": "LendKeys",
            "Effect": "Allow",
            "Action": "kms:CreateGrant",
            "Resource": resources,
            "Condition": { "Bool": { "kms:GrantIsForAWSResource": "true" } },
        }));
    }
}

fn is_some(of: &Value, name: &str) -> bool {
    of[name].as_array().is_some_and(|all| !all.is_empty())
}

/// Whether anybody else may launch an image.
fn is_shared(image: &Value) -> bool {
    ["users", "groups", "organisations", "units"].into_iter().any(|name| is_some(image, name))
}

fn key_arns(keys: &BTreeSet<String>, partition: &str) -> BTreeSet<String> {
    let arn = |key: &String| match key.as_str() {
        arn if arn.starts_with("arn:") && !arn.contains(":alias/") => arn.to_owned(),
        // A policy cannot name a key by an alias.
        alias if alias.contains("alias/") => format!("arn:{partition}:kms:*:*:key/*"),
        id => format!("arn:{partition}:kms:*:*:key/{id}"),
    };
    keys.iter().map(arn).collect()
}
