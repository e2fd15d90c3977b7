/*
impl UnifiedDialogApi {
    /// Sends `request` outside any dialog to `destination` and waits for its final answer.
    ///
    /// Any method but INVITE, ACK and CANCEL: those are [`ApiError::MethodNotAllowed`]... 
    /// Transport: `sips` → TLS, `transport=` of the Request-URI, else UDP; TLS name from the Request-URI host.
    /// The request must be complete but for Via (RFC 3261 §8.1.1): From with a tag, To, Call-ID, CSeq, Max-Forwards; what is missing is
    /// ApiError::InvalidRequest naming the header. Via is the transaction's: a request that has one is refused.
    /// Provisional answers (100–199) do not end it. A 401/407 is returned raw. Timeout covers connecting and every attempt.
    /// Errors: Timeout, Transport, Cancelled (endpoint shut down / cancelled), InvalidRequest, 
    /// Dropping the future forgets the transaction.
    pub async fn send_non_dialog_request(&self, request: Request, destination: SocketAddr, timeout: Duration) -> ApiResult<Response>;
    /// The same to a Target: Uri (resolved RFC 3263), Addr(transport, address), Flow.
    pub async fn send_request_to(&self, request: Request, target: Target, timeout: Duration) -> ApiResult<Response>;
    /// With authenticated retry through a synchronous Authorizer.
    pub async fn send_authorized(&self, request: Request, target: Target, authorizer: Arc<dyn Authorizer>, timeout: Duration) -> ApiResult<Response>;
}
*/
