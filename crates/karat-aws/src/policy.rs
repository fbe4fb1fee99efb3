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
        let some = |name: &str| image[name].as_array().is_some_and(|all| !all.is_empty());
        self.look("ec2", &["DescribeSnapshots"]);
        self.own(&["CreateTags"], &["snapshot"]);
        let imds = image["imds"].as_str().is_some_and(|t| !t.is_empty());
        if imds || ["users", "groups", "organisations", "units"].into_iter().any(some) {
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

    fn add_keys(&self, partition: &str, statements: &mut Vec<Value>) {
        let resources: BTreeSet<String> = self
            .keys
            .iter()
            .map(|key| match key.as_str() {
                arn if arn.starts_with("arn:") && !arn.contains(":alias/") => arn.to_owned(),
                // A policy cannot name a key by an alias.
                alias if alias.contains("alias/") => format!("arn:{partition}:kms:*:*:key/*"),
                id => format!("arn:{partition}:kms:*:*:key/{id}"),
            })
            .collect();
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
