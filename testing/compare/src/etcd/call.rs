//! Calls over a persistent gRPC connection.

use anyhow::{Context as _, anyhow};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// One client's connection.
pub(super) struct Caller {
    channel: Channel,
}

impl Caller {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Caller> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
        let channel = endpoint
            .connect()
            .await
            .with_context(|| format!("cannot connect to {url}"))?;
        Ok(Caller { channel })
    }

    /// Calls a method, named `/package.Service/Method`.
    pub(super) async fn call<Q, A>(&self, method: &'static str, request: Q) -> anyhow::Result<A>
    where
        Q: prost::Message + Send + 'static,
        A: prost::Message + Default + Send + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| anyhow!("the connection is gone: {error}"))?;
        let path = PathAndQuery::from_static(method);
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(Request::new(request), path, codec).await;
        let answer = answer.map_err(|status| anyhow!("{method} failed: {status}"))?;
        Ok(answer.into_inner())
    }
}
