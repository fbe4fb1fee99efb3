//! The one list of components.

use karat_component::Components;

/// Everything that a template can name.
pub(crate) fn all() -> Components {
    Components::new()
        .data_source(karat_data::External)
        .data_source(karat_data::ExternalRaw)
        .data_source(karat_data::Http)
        .data_source(karat_data::Null)
        .data_source(karat_aws::AmazonAmi)
        .data_source(karat_aws::AmazonParameterStore)
        .data_source(karat_aws::AmazonSecretsManager)
        .builder(karat_builders::Null)
        .builder(karat_builders::File)
        .builder(karat_machine::MachineBuilder)
        .builder(karat_aws::AmazonEbs)
        .builder(karat_aws::AmazonEbsSurrogate)
        .builder(karat_aws::AmazonEbsVolume)
        .builder(karat_aws::AmazonChroot)
        .provisioner(karat_provisioners::Shell)
        .provisioner(karat_provisioners::ShellLocal)
        .provisioner(karat_provisioners::File)
        .provisioner(karat_provisioners::Sleep)
        .provisioner(karat_provisioners::Breakpoint)
        .post_processor(karat_aws::AmazonImport)
        .post_processor(karat_postprocessors::Manifest)
        .post_processor(karat_postprocessors::Checksum)
        .post_processor(karat_postprocessors::Compress)
        .post_processor(karat_postprocessors::Artifice)
        .post_processor(karat_postprocessors::ShellLocal)
}
