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
