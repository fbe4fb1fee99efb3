//! Post-processor `amazon-import`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use karat_component::{
    Artifact, BuildInfo, ComponentError, PostProcessContext, PostProcessor, Processed,
    ValidateContext,
};
use karat_config::{Config, NameRules};
use karat_disk::Container;
use karat_provisioners::late::Late;
use karat_saga::{Saga, SagaBuilder, StepRegistry};
use serde_json::json;

use super::Import;
use super::send::{Made, SendDisk, Shared};
use super::task::{Bucket, Publish, RunTask, Upload};
use crate::client::Access;
use crate::ebs::Scope;
use crate::options::{AccessConfig, Tags, is_key, merged};

/// Makes an Amazon Machine Image of a disk that a build left.
///
/// The disk's blocks go into a snapshot by EBS direct, and the snapshot is registered as an image:
/// no bucket, no role and no import task are needed, and AWS changes nothing on the disk. Windows,
/// and licences, take an import task (`method`).
#[derive(Clone, Debug, Config)]
pub struct AmazonImportConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// How the image is made: `ebs-direct` sends the disk's blocks; `import-image` brings the disk to
    /// a bucket and has a task of AWS make the image, which boots the system and changes it. Without,
    /// the task where `platform` is `windows` or there is a `license_type`, and the blocks otherwise.
    #[option(default = "")]
    pub method: String,
    /// The bucket of S3 that a task reads the disk from. Sending blocks needs none.
    #[option(default = "", volatile)]
    pub s3_bucket_name: String,
    /// The disk's name in the bucket; without, `packer-import-{{timestamp}}.FORMAT`.
    #[option(default = "", late, volatile)]
    pub s3_key_name: String,
    /// How the disk is encrypted in the bucket: `AES256` or `aws:kms`.
    #[option(default = "", volatile)]
    pub s3_encryption: String,
    /// The key of `aws:kms` that it is encrypted with there; AWS's own without.
    #[option(default = "", volatile)]
    pub s3_encryption_key: String,
    /// Whether the disk stays in the bucket.
    #[option(default = false, volatile)]
    pub skip_clean: bool,
    /// Tags of the image and its snapshot.
    pub tags: BTreeMap<String, String>,
    /// The image's name; made up where empty.
    #[option(default = "")]
    pub ami_name: String,
    /// What the image says of itself.
    #[option(default = "")]
    pub ami_description: String,
    /// Accounts that may launch the image.
    pub ami_users: Vec<String>,
    /// Groups that may launch the image: `all` makes it public.
    pub ami_groups: Vec<String>,
    /// ARNs of organisations that may launch the image.
    pub ami_org_arns: Vec<String>,
    /// ARNs of organisational units that may launch the image.
    pub ami_ou_arns: Vec<String>,
    /// Whether the image is encrypted.
    #[option(default = false)]
    pub ami_encrypt: bool,
    /// The key that it is encrypted with; AWS's own without.
    #[option(default = "")]
    pub ami_kms_key: String,
    /// `v2.0`: machines of the image have the metadata service in version 2 alone; also without, where
    /// blocks are sent.
    #[option(default = "")]
    pub imds_support: String,
    /// The licence of the system, for an import task: `AWS` or `BYOL`.
    #[option(default = "")]
    pub license_type: String,
    /// The role in which an import task reads the bucket; `vmimport` without.
    #[option(default = "", volatile)]
    pub role_name: String,
    /// The disk's format, which its name ends in: `ova`, `raw`, `vmdk`, `vhd`, `vhdx`, or `qcow2`. All
    /// but `raw` and `qcow2` are read with `qemu-img`, of the package `qemu-utils`; an OVA has to have
    /// one disk.
    #[option(default = "ova")]
    pub format: String,
    /// The disk's architecture: `x86_64` or `arm64`.
    #[option(default = "x86_64")]
    pub architecture: String,
    /// How machines of the image start: `legacy-bios`, `uefi` or `uefi-preferred`. Without, what the
    /// disk has partitions for; with an import task `legacy-bios`, and `uefi` of `arm64`.
    #[option(default = "")]
    pub boot_mode: String,
    /// The disk's system: `linux` or `windows`.
    #[option(default = "")]
    pub platform: String,
}

/// Options of `amazon-import` that were proved.
#[derive(Clone, Debug)]
pub struct AmazonImportValidated {
    access: Access,
    import: Import,
    format: String,
    shared: Shared,
    /// The import task, where it is not blocks that are sent.
    task: Option<Task>,
}

/// What an import task needs beside.
#[derive(Clone, Debug)]
struct Task {
    bucket: Bucket,
    platform: String,
    license: String,
    role: String,
    imds: bool,
}

/// The post-processor `amazon-import`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AmazonImport;

/// The step that gives the image.
const MADE: &str = "import";

/// The format of a name, which is in lower case.
fn format(name: &str) -> Option<Container> {
    Container::from_name(name).filter(|kind| kind.name() == name)
}

impl AmazonImportConfig {
    /// Whether the image is made by an import task.
    fn is_task(&self) -> bool {
        match self.method.as_str() {
            "" => self.platform == "windows" || !self.license_type.is_empty(),
            method => method == "import-image",
        }
    }

    fn check_method(&self, cx: &mut ValidateContext<'_>) {
        if !["", "ebs-direct", "import-image"].contains(&self.method.as_str()) {
            cx.error("method", format!("unknown method \"{}\"", self.method))
                .hint("use ebs-direct or import-image");
        }
        for (option, given) in [
            ("platform", self.platform == "windows"),
            ("license_type", !self.license_type.is_empty()),
        ] {
            if given && self.method == "ebs-direct" {
                cx.error(
                    option,
                    format!("\"{option}\" needs an import task, and not blocks alone"),
                )
                .hint("remove method = \"ebs-direct\"");
            }
        }
        if !matches!(&*self.license_type, "" | "AWS" | "BYOL") {
            cx.error("license_type", format!("invalid license type '{}'", self.license_type))
                .hint("use AWS or BYOL");
        }
        karat_provisioners::late::check("s3_key_name", &self.s3_key_name, cx);
        if !self.is_task() {
            return;
        }
        if self.s3_bucket_name.is_empty() && cx.is_known("s3_bucket_name") {
            cx.error("s3_bucket_name", "s3_bucket_name must be set")
                .detail("An import task reads the disk from a bucket.");
        }
        if self.format == "qcow2" {
            cx.error("format", "an import task does not read qcow2")
                .hint("make the disk raw, vmdk, vhd, vhdx or ova");
        }
        if self.boot_mode == "uefi" && self.platform.is_empty() && cx.is_known("platform") {
            let text = "'platform' must be set for 'uefi' image imports";
            cx.error("platform", text).hint("use linux or windows");
        }
    }

    fn check(&self, cx: &mut ValidateContext<'_>) {
        if format(&self.format).is_none() {
            cx.error("format", format!("invalid format '{}'", self.format))
                .hint("use one of 'ova', 'raw', 'vmdk', 'vhd', 'vhdx' or 'qcow2'");
        }
        if !["x86_64", "arm64"].contains(&self.architecture.as_str()) {
            cx.error("architecture", format!("unknown architecture \"{}\"", self.architecture))
                .hint("use x86_64 or arm64");
        }
        if !["", "legacy-bios", "uefi", "uefi-preferred"].contains(&self.boot_mode.as_str()) {
            cx.error("boot_mode", format!("invalid boot mode '{}'", self.boot_mode))
                .hint("use legacy-bios, uefi or uefi-preferred");
        }
        if self.architecture == "arm64" && !matches!(&*self.boot_mode, "" | "uefi") {
            let text = format!("invalid boot mode '{}' for 'arm64' architecture", self.boot_mode);
            cx.error("boot_mode", text).hint("such machines start by uefi");
        }
        match self.platform.as_str() {
            "" | "linux" | "windows" => {}
            other => {
                let text = format!("invalid platform '{other}'");
                cx.error("platform", text).hint("use linux or windows");
            }
        }
        self.check_method(cx);
        if !matches!(&*self.imds_support, "" | "v2.0") {
            cx.error("imds_support", "imds_support is \"v2.0\" or empty")
                .detail(format!("\"{}\" is neither.", self.imds_support));
        }
        if !matches!(&*self.s3_encryption, "" | "AES256" | "aws:kms") {
            let text = format!("invalid s3 encryption format '{}'", self.s3_encryption);
            cx.error("s3_encryption", text).hint("use AES256 or aws:kms");
        }
        if !self.ami_kms_key.is_empty() && !is_key(&self.ami_kms_key) {
            cx.error("ami_kms_key", format!("\"{}\" is not a valid KMS key id", self.ami_kms_key))
                .hint("give the key's id, \"alias/NAME\" or its ARN");
        }
        let length = self.ami_name.chars().count();
        if !self.ami_name.is_empty() && !(3..=128).contains(&length) {
            cx.error("ami_name", "ami_name must be between 3 and 128 characters long")
                .detail(format!("\"{}\" has {length}.", self.ami_name));
        }
        let clean = NameRules::Amazon.clean(&self.ami_name);
        if clean != self.ami_name {
            cx.error("ami_name", "ami_name has characters that AWS does not take")
                .hint(format!("\"{clean}\" would do"));
        }
        let own_key = self.ami_encrypt && self.ami_kms_key.is_empty();
        for (option, given) in [
            ("ami_users", !self.ami_users.is_empty()),
            ("ami_org_arns", !self.ami_org_arns.is_empty()),
            ("ami_ou_arns", !self.ami_ou_arns.is_empty()),
        ] {
            if given && own_key && cx.is_known("ami_kms_key") {
                cx.error(option, "what is encrypted with AWS's own key cannot be shared")
                    .hint("set ami_kms_key");
            }
        }
        if !self.ami_groups.is_empty() && (self.ami_encrypt || !self.ami_kms_key.is_empty()) {
            cx.error("ami_groups", "what is encrypted cannot be public");
        }
    }
}

impl AmazonImportValidated {
    /// The disk among the artifact's files.
    fn disk(&self, artifact: &Artifact) -> Result<PathBuf, ComponentError> {
        let ending = format!(".{}", self.format);
        let is_disk = |file: &&PathBuf| file.to_string_lossy().ends_with(&ending);
        artifact.files.iter().find(is_disk).cloned().ok_or_else(|| {
            ComponentError::new(format!("No {} image file found in artifact from builder", self.format))
                .with_hint("\"format\" is what the disk's name ends in; \"artifice\" before this takes a file of your own")
        })
    }

    /// The steps that make the image, with all that is made up for it. `key` is the disk's name in a
    /// bucket.
    fn saga(&self, disk: &Path, target: &str, key: String) -> Result<Saga, ComponentError> {
        let unknown = |e| ComponentError::because(format!("could not find {}", disk.display()), e);
        let disk = std::path::absolute(disk).map_err(unknown)?;
        let token = format!("karat-{}", uuid::Uuid::new_v4().simple());
        // What was sent is written down there.
        let folder = disk.with_file_name(format!(".import-{token}"));
        let name = match self.import.name.is_empty() && self.task.is_none() {
            true => format!("import-{}", uuid::Uuid::new_v4().simple()),
            false => self.import.name.clone(),
        };
        let scope = Scope {
            access: self.access.as_here(|name| std::env::var(name).ok()),
            token: token.clone(),
            build: target.to_owned(),
            folder: folder.clone(),
        };
        let import = Import { disk, name, state_dir: folder, token, ..self.import.clone() };
        let saga = Saga::new(AmazonImport::TYPE);
        let saga = match &self.task {
            None => saga.step(MADE, SendDisk { scope, import, shared: self.shared.clone() }),
            Some(task) => self.task_steps(saga, task, scope, import, key),
        };
        saga.build().map_err(|e| ComponentError::because("could not lay out the import", e))
    }

    fn task_steps(
        &self,
        saga: SagaBuilder,
        task: &Task,
        scope: Scope,
        import: Import,
        key: String,
    ) -> SagaBuilder {
        let bucket = Bucket { key, ..task.bucket.clone() };
        let upload = Upload {
            scope: scope.clone(),
            disk: import.disk.clone(),
            bucket: bucket.clone(),
            name: import.name.clone(),
        };
        let renamed = !import.name.is_empty();
        let boot_mode = match (import.boot_mode.as_str(), import.architecture.as_str()) {
            ("", "arm64") => "uefi".to_owned(),
            ("", _) => "legacy-bios".to_owned(),
            (given, _) => given.to_owned(),
        };
        let run = RunTask {
            scope: scope.clone(),
            bucket,
            format: self.format.clone(),
            architecture: import.architecture.clone(),
            boot_mode,
            platform: task.platform.clone(),
            license: task.license.clone(),
            role: task.role.clone(),
            encrypt: import.encrypt,
            key: import.key.clone(),
            renamed,
        };
        let (shared, imds) = (self.shared.clone(), task.imds);
        let publish = Publish { scope, import, shared, renamed, imds };
        saga.step("upload", upload).step("task", run).step(MADE, publish)
    }

    /// The disk's name in a bucket, as a text with `{{ }}`.
    fn key(&self, task: &Task) -> String {
        match task.bucket.key.as_str() {
            "" => format!("packer-import-{{{{timestamp}}}}.{}", self.format),
            given => given.to_owned(),
        }
    }

    /// The image as an artifact.
    fn artifact(&self, made: &Made) -> Result<Artifact, ComponentError> {
        let Made { image, region, name } = made;
        let access = serde_json::to_value(&self.access)
            .map_err(|e| ComponentError::because("could not write down how AWS is reached", e))?;
        Ok(Artifact {
            builder_id: "packer.post-processor.amazon-import".into(),
            id: format!("{region}:{image}"),
            description: format!("AMIs were created:\n{region}: {image}\n"),
            attributes: BTreeMap::from([
                ("ami".into(), image.clone().into()),
                ("amis".into(), json!({ region: image })),
                ("region".into(), region.clone().into()),
                ("name".into(), name.clone().into()),
            ]),
            state: BTreeMap::from([("access".into(), access)]),
            ..Artifact::default()
        })
    }
}

impl PostProcessor for AmazonImport {
    const TYPE: &'static str = "amazon-import";
    const NAMES: Option<NameRules> = Some(NameRules::Amazon);
    type Config = AmazonImportConfig;
    type Validated = AmazonImportValidated;

    fn validate(
        &self,
        config: AmazonImportConfig,
        cx: &mut ValidateContext<'_>,
    ) -> Option<AmazonImportValidated> {
        let access = config.access.validate(cx);
        config.check(cx);
        let tags: Tags = merged("tags", &config.tags, std::iter::empty(), cx);
        let task = config.is_task().then(|| Task {
            bucket: Bucket {
                name: config.s3_bucket_name.clone(),
                key: config.s3_key_name.clone(),
                encryption: config.s3_encryption.clone(),
                encryption_key: config.s3_encryption_key.clone(),
                stays: config.skip_clean,
            },
            platform: config.platform.clone(),
            license: config.license_type.clone(),
            role: config.role_name.clone(),
            imds: !config.imds_support.is_empty(),
        });
        let shared = Shared {
            users: config.ami_users,
            groups: config.ami_groups,
            organisations: config.ami_org_arns,
            units: config.ami_ou_arns,
        };
        let import = Import {
            name: config.ami_name,
            description: config.ami_description,
            architecture: config.architecture,
            boot_mode: config.boot_mode,
            encrypt: config.ami_encrypt || !config.ami_kms_key.is_empty(),
            key: config.ami_kms_key,
            format: format(&config.format),
            tags,
            ..Import::default()
        };
        Some(AmazonImportValidated { access, import, format: config.format, shared, task })
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        registry.register::<SendDisk>().register::<Upload>().register::<RunTask>();
        registry.register::<Publish>();
    }

    fn planned(
        &self,
        validated: &AmazonImportValidated,
        build: &BuildInfo,
    ) -> Result<Option<Saga>, ComponentError> {
        validated.saga(Path::new("disk"), &build.target, String::new()).map(Some)
    }

    async fn post_process(
        &self,
        validated: &AmazonImportValidated,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let disk = validated.disk(&artifact)?;
        let late = Late::new(&cx.build, &cx.generated, &cx.services);
        let key = validated.task.as_ref().map(|task| validated.key(task));
        let key = key.map(|key| late.render("s3_key_name", &key, &[])).transpose()?;
        let saga = validated.saga(&disk, &cx.build.target, key.unwrap_or_default())?;
        let outputs = cx.sagas.run_saga(saga).await?;
        let made: Made = outputs
            .get(MADE)
            .map_err(|e| ComponentError::because("could not read what was made", e))?;
        let artifact = validated.artifact(&made)?;
        Ok(Processed { artifact: Some(artifact), keep: false, force: false })
    }
}
