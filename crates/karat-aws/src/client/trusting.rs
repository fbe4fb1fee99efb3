//! The web without looking at certificates, where that is wanted.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::error::AwsError;

/// Sends what an SDK asks for, to whoever answers.
#[derive(Clone, Debug)]
struct Trusting(reqwest::Client);

impl Trusting {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let wrong = |text: String| ConnectorError::other(Box::new(AwsError::new(text)), None);
        let request = request.try_into_http1x().map_err(|e| wrong(e.to_string()))?;
        let (parts, body) = request.into_parts();
        let body = aws_smithy_types::byte_stream::ByteStream::new(body).collect().await;
        let body = body.map_err(|e| ConnectorError::io(e.into()))?.into_bytes();
        let sent = self
            .0
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body)
            .send()
            .await;
        let failed = |e: reqwest::Error| match e.is_timeout() {
            true => ConnectorError::timeout(e.into()),
            false => ConnectorError::io(e.into()),
        };
        let answer = sent.map_err(failed)?;
        let status = StatusCode::try_from(answer.status().as_u16());
        let status = status.map_err(|e| wrong(e.to_string()))?;
        let headers = answer.headers().clone();
        let body = answer.bytes().await.map_err(failed)?;
        let mut given = HttpResponse::new(status, SdkBody::from(body));
        for (name, value) in &headers {
            if let Ok(value) = value.to_str() {
                given.headers_mut().append(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(given)
    }
}

impl HttpConnector for Trusting {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.send(request).await })
    }
}

/// A client that takes any certificate.
pub(super) fn trusting() -> Result<SharedHttpClient, AwsError> {
    let client = karat_data::client_builder()
        .tls_danger_accept_invalid_certs(true)
        .no_gzip()
        .build()
        .map_err(|e| AwsError::new(format!("could not prepare for the web: {e}")))?;
    let connector = SharedHttpConnector::new(Trusting(client));
    Ok(http_client_fn(move |_, _| connector.clone()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use rustls::pki_types::PrivateKeyDer;

    use crate::client::access::Keys;
    use crate::client::{Access, Aws};

    const ANSWER: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn</Arn>\
        <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

    /// A server whose certificate cannot be trusted; its address.
    fn server() -> String {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Nobody vouches for it, and it is of another address.
        let own = rcgen::generate_simple_self_signed(["nobody.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
                let mut text = Vec::new();
                let mut part = [0; 4096];
                // The body of this call ends with the version of the interface.
                while !text.ends_with(b"Version=2011-06-15") {
                    match stream.read(&mut part) {
                        Ok(length) if length > 0 => text.extend_from_slice(&part[..length]),
                        _ => break,
                    }
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{ANSWER}",
                    ANSWER.len()
                );
                // Who does not trust it is gone.
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        address
    }

    #[tokio::test]
    async fn certificates_are_looked_at_unless_that_is_not_wanted() {
        let access = Access {
            region: Some("us-east-1".into()),
            endpoint: Some(server()),
            attempts: 1,
            keys: Some(Keys { id: "AKIA".into(), secret: "s".into(), token: None }),
            unchecked: true,
            ..Access::default()
        };
        let aws = Aws::connect(&access).await.unwrap();
        assert_eq!(aws.caller().await.unwrap().account, "123456789012");
        let strict = Access { unchecked: false, ..access };
        let aws = Aws::connect(&strict).await.unwrap();
        let error = aws.caller().await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
