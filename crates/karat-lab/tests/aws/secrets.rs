//! IAM, KMS, parameters and secrets.

use crate::cli::{bench, text};
use crate::instances::base;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

#[test]
fn a_role_and_its_profile_are_made_used_and_removed_in_order() {
    let Some(lab) = bench() else { return };
    let made = lab.ok("iam create-role --role-name build --assume-role-policy-document", &[TRUST]);
    assert_eq!(made["Role"]["Arn"], "arn:aws:iam::111122223333:role/build");
    assert_eq!(made["Role"]["AssumeRolePolicyDocument"]["Version"], "2012-10-17");
    lab.aws("iam create-instance-profile --instance-profile-name build");
    let both = "--instance-profile-name build --role-name build";
    let image = base(&lab);
    let run = format!(
        "ec2 run-instances --image-id {image} --instance-type t3.micro \
         --iam-instance-profile Name=build"
    );
    assert_eq!(lab.refused(&run), "InvalidParameterValue", "no role in it");
    lab.aws(&format!("iam add-role-to-instance-profile {both}"));
    assert_eq!(lab.refused(&format!("iam add-role-to-instance-profile {both}")), "LimitExceeded");
    lab.ok(
        "iam put-role-policy --role-name build --policy-name p --policy-document",
        &[r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#],
    );
    let policy = lab.aws("iam get-role-policy --role-name build --policy-name p");
    assert_eq!(policy["PolicyDocument"]["Statement"][0]["Action"], "s3:*");
    let profile = lab.aws("iam get-instance-profile --instance-profile-name build");
    assert_eq!(profile["InstanceProfile"]["Roles"][0]["RoleName"], "build");
    let made = lab.aws(&run);
    assert_eq!(
        made["Instances"][0]["IamInstanceProfile"]["Arn"],
        "arn:aws:iam::111122223333:instance-profile/build"
    );
    assert_eq!(lab.refused("iam delete-role --role-name build"), "DeleteConflict");
    let delete = "iam delete-instance-profile --instance-profile-name build";
    assert_eq!(lab.refused(delete), "DeleteConflict");
    lab.aws(&format!("iam remove-role-from-instance-profile {both}"));
    lab.aws(delete);
    assert_eq!(lab.refused("iam delete-role --role-name build"), "DeleteConflict");
    lab.aws("iam delete-role-policy --role-name build --policy-name p");
    lab.aws("iam delete-role --role-name build");
    assert_eq!(lab.refused("iam get-role --role-name build"), "NoSuchEntity");
}

#[test]
fn data_keys_open_with_their_context_only() {
    let Some(lab) = bench() else { return };
    let default = lab.aws("kms describe-key --key-id alias/aws/ebs");
    assert_eq!(default["KeyMetadata"]["KeyManager"], "AWS");
    let key = lab.aws("kms create-key");
    let key = text(&key["KeyMetadata"]["KeyId"]).to_owned();
    let made = lab.aws(&format!(
        "kms generate-data-key --key-id {key} --number-of-bytes 64 --encryption-context a=1"
    ));
    let file = lab.dir().join("sealed");
    let sealed = text(&made["CiphertextBlob"]);
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(sealed).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let open = format!("kms decrypt --ciphertext-blob fileb://{}", file.display());
    let opened = lab.aws(&format!("{open} --encryption-context a=1"));
    assert_eq!(opened["Plaintext"], made["Plaintext"]);
    assert_eq!(lab.refused(&open), "InvalidCiphertextException");
    lab.aws(&format!("kms schedule-key-deletion --key-id {key} --pending-window-in-days 7"));
    let late = format!("kms generate-data-key --key-id {key} --key-spec AES_256");
    assert_eq!(lab.refused(&late), "KMSInvalidStateException");
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}

#[test]
fn parameters_have_versions_and_paths() {
    let Some(lab) = bench() else { return };
    lab.aws("ssm put-parameter --name /app/db --type SecureString --value one");
    let again = "ssm put-parameter --name /app/db --value two";
    assert_eq!(lab.refused(again), "ParameterAlreadyExists");
    assert_eq!(lab.aws(&format!("{again} --overwrite"))["Version"], 2);
    let sealed = lab.aws("ssm get-parameter --name /app/db");
    assert_ne!(sealed["Parameter"]["Value"], "two");
    let open = lab.aws("ssm get-parameter --name /app/db --with-decryption");
    assert_eq!(open["Parameter"]["Value"], "two");
    assert_eq!(open["Parameter"]["ARN"], "arn:aws:ssm:us-east-1:111122223333:parameter/app/db");
    let old = lab.aws("ssm get-parameter --name /app/db:1 --with-decryption");
    assert_eq!(old["Parameter"]["Value"], "one");
    lab.aws("ssm put-parameter --name /app/deep/x --type String --value x");
    let flat = lab.aws("ssm get-parameters-by-path --path /app");
    assert_eq!(flat["Parameters"].as_array().unwrap().len(), 1);
    let deep = lab.aws("ssm get-parameters-by-path --path /app --recursive");
    assert_eq!(deep["Parameters"].as_array().unwrap().len(), 2);
    let several = lab.aws("ssm get-parameters --names /app/deep/x /none");
    assert_eq!(several["InvalidParameters"][0], "/none");
    assert_eq!(lab.refused("ssm get-parameter --name /none"), "ParameterNotFound");
}

#[test]
fn secrets_have_versions_with_stages() {
    let Some(lab) = bench() else { return };
    lab.aws("secretsmanager create-secret --name db --secret-string one");
    let got = lab.aws("secretsmanager get-secret-value --secret-id db");
    assert_eq!(got["SecretString"], "one");
    let arn = text(&got["ARN"]).to_owned();
    lab.aws("secretsmanager put-secret-value --secret-id db --secret-string two");
    let got = lab.aws(&format!("secretsmanager get-secret-value --secret-id {arn}"));
    assert_eq!(got["SecretString"], "two");
    let old = lab.aws("secretsmanager get-secret-value --secret-id db --version-stage AWSPREVIOUS");
    assert_eq!(old["SecretString"], "one");
    let exists = "secretsmanager create-secret --name db --secret-string x";
    assert_eq!(lab.refused(exists), "ResourceExistsException");
    lab.aws("secretsmanager delete-secret --secret-id db --force-delete-without-recovery");
    let gone = "secretsmanager get-secret-value --secret-id db";
    assert_eq!(lab.refused(gone), "ResourceNotFoundException");
    assert!(lab.left().is_empty(), "{:?}", lab.left());
}
