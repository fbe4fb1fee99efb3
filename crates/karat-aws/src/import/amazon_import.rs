//! Post-processor `amazon-import`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use karat_component::{
    Artifact, ComponentError, PostProcessContext, PostProcessor, Processed, ValidateContext,
};
use karat_config::{Config, NameRules};
use karat_disk::Container;
use karat_saga::{Saga, StepRegistry};
use serde_json::json;

use super::Import;
use super::send::{Made, SendDisk, Shared};
use crate::client::Access;
use crate::ebs::Scope;
use crate::options::{AccessConfig, Tags, is_key, merged, not_yet};

/// Makes an Amazon Machine Image of a disk that a build left.
///
/// The disk's blocks go into a snapshot by EBS direct, and the snapshot is registered as an image:
/// no bucket, no role and no import task are needed, and AWS changes nothing on the disk.
#[derive(Clone, Debug, Config)]
pub struct AmazonImportConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// A bucket of S3. None is needed.
    #[option(default = "", volatile)]
    pub s3_bucket_name: String,
    /// The disk's name in the bucket. None is needed.
    #[option(default = "", late, volatile)]
    pub s3_key_name: String,
    /// How the bucket encrypts. None is needed.
    #[option(default = "", volatile)]
    pub s3_encryption: String,
    /// The key that the bucket encrypts with. None is needed.
    #[option(default = "", volatile)]
    pub s3_encryption_key: String,
    /// Whether the disk stays in the bucket. None is needed.
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
    /// `v2.0`: machines of the image have the metadata service in version 2 alone, also without.
    #[option(default = "")]
    pub imds_support: String,
    /// The licence of the system, for an import task. Not supported: an image of Linux needs none.
    #[option(default = "")]
    pub license_type: String,
    /// The role of an import task. None is needed.
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
    /// How machines of the image start: `legacy-bios`, `uefi` or `uefi-preferred`; what the disk has
    /// partitions for, without.
    #[option(default = "")]
    pub boot_mode: String,
    /// The disk's system: `linux`.
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
}

/// The post-processor `amazon-import`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AmazonImport;

/// The format of a name, which is in lower case.
fn format(name: &str) -> Option<Container> {
    Container::from_name(name).filter(|kind| kind.name() == name)
}

impl AmazonImportConfig {
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
            "" | "linux" => {}
            "windows" => {
                cx.error("platform", "the platform \"windows\" is not supported yet")
                    .detail("Windows needs drivers and a licence that an import task adds.");
            }
            other => {
                cx.error("platform", format!("invalid platform '{other}'")).hint("use linux");
            }
        }
        not_yet(cx, "license_type", !self.license_type.is_empty(), "remove it");
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

    /// The step that makes the image, with all that is made up for it.
    fn step(&self, disk: &Path, cx: &PostProcessContext) -> Result<SendDisk, ComponentError> {
        let unknown = |e| ComponentError::because(format!("could not find {}", disk.display()), e);
        let disk = std::path::absolute(disk).map_err(unknown)?;
        let token = format!("karat-{}", uuid::Uuid::new_v4().simple());
        // What was sent is written down there.
        let folder = disk.with_file_name(format!(".import-{token}"));
        let name = match self.import.name.is_empty() {
            true => format!("import-{}", uuid::Uuid::new_v4().simple()),
            false => self.import.name.clone(),
        };
        let scope = Scope {
            access: self.access.as_here(|name| std::env::var(name).ok()),
            token: token.clone(),
            build: cx.build.target.clone(),
            folder: folder.clone(),
        };
        let import = Import { disk, name, state_dir: folder, token, ..self.import.clone() };
        Ok(SendDisk { scope, import, shared: self.shared.clone() })
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
        Some(AmazonImportValidated { access, import, format: config.format, shared })
    }

    fn register_steps(&self, registry: &mut StepRegistry) {
        registry.register::<SendDisk>();
    }

    async fn post_process(
        &self,
        validated: &AmazonImportValidated,
        cx: &PostProcessContext,
        artifact: Artifact,
    ) -> Result<Processed, ComponentError> {
        let disk = validated.disk(&artifact)?;
        let saga = Saga::new("amazon-import").step("import", validated.step(&disk, cx)?).build();
        let saga = saga.map_err(|e| ComponentError::because("could not lay out the import", e))?;
        let outputs = cx.sagas.run_saga(saga).await?;
        let made: Made = outputs
            .get("import")
            .map_err(|e| ComponentError::because("could not read what was made", e))?;
        let artifact = validated.artifact(&made)?;
        Ok(Processed { artifact: Some(artifact), keep: false, force: false })
    }
}
