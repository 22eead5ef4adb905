"""A client of image registries (OCI distribution-spec): manifests, blobs, tokens, resume.

Nothing it returns is unverified: manifests and blobs are checked against the digest asked for.
aiohttp is imported at the first use, so that an idle daemon does not pay for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.engine.errors import EngineError, NotFound, Unauthorized
from api.engine.references import DEFAULT_DOMAIN, Reference

if TYPE_CHECKING:
    import aiohttp

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"
_HUB = "registry-1.docker.io"
_MANIFEST_BYTES = 4 << 20
_CONFIG_BYTES = 8 << 20
_CHUNK_BYTES = 256 << 10
_ATTEMPTS = 5
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `docker login` stored; empty for anonymous."""

    username: str = ""
    password: str = ""
    identity_token: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as the registry has it."""

    digest: str
    media_type: str
    content: dict[str, Any]


class DigestMismatch(EngineError):
    """The registry sent something else than what was asked for."""


@dataclass(slots=True)
class Registry:
    """One repository of one registry. Use it as `async with registry.session():`."""

    reference: Reference
    credentials: Credentials = Credentials()
    mirrors: list[str] = field(default_factory=list)
    _session: aiohttp.ClientSession | None = None
    _base: str = ""
    _authorization: str = ""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Keep connections while this lasts."""
        import aiohttp  # noqa: PLC0415 - see above

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            self._session = session
            try:
                yield
            finally:
                self._session = None

    async def probe(self) -> None:
        """Find the base address that answers. Raises EngineError when none does."""
        failure: EngineError | None = None
        for base in self._candidates():
            self._base = base
            try:
                async with self._request(f"{base}/v2/", authorize=False):
                    return
            except EngineError as error:
                failure = failure or error
        raise failure or EngineError("no registry to ask")

    async def manifest(self, name: str) -> Manifest:
        """The manifest or index by tag or digest, verified. Raises NotFound."""
        url = f"{self._base}/v2/{self.reference.path}/manifests/{name}"
        async with self._request(url, {"Accept": _ACCEPT}) as response:
            await self._raise_for(response, name)
            data = await _limited(response, _MANIFEST_BYTES)
            announced = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for expected in (announced, name if name.startswith("sha256:") else ""):
            if expected.startswith("sha256:") and expected != digest:
                raise DigestMismatch(
                    f"manifest verification failed for digest {expected}: got {digest}"
                )
        try:
            content = json.loads(data)
        except ValueError:
            raise EngineError("invalid manifest: not JSON") from None
        if not isinstance(content, dict):
            raise EngineError("invalid manifest: not an object")
        return Manifest(digest, str(content.get("mediaType") or media_type), content)

    async def small_blob(self, digest: str) -> bytes:
        """A config blob, verified."""
        async with self._request(self._blob_url(digest)) as response:
            await self._raise_for(response, digest)
            data = await _limited(response, _CONFIG_BYTES)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise DigestMismatch(f"filesystem layer verification failed for digest {digest}")
        return data

    async def download(self, digest: str, target: Path, progress: Callable[[int], None]) -> None:
        """A blob into a file, verified; goes on where a broken connection left it."""
        import aiohttp  # noqa: PLC0415 - see above

        hasher = hashlib.sha256()
        count = 0
        with target.open("wb") as file:
            for attempt in range(_ATTEMPTS):
                headers = {"Range": f"bytes={count}-"} if count else {}
                try:
                    async with self._request(self._blob_url(digest), headers) as response:
                        await self._raise_for(response, digest)
                        if count and response.status != 206:
                            hasher, count = hashlib.sha256(), 0
                            file.seek(0)
                            file.truncate()
                        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                            hasher.update(chunk)
                            file.write(chunk)
                            count += len(chunk)
                            progress(count)
                    break
                except (aiohttp.ClientError, TimeoutError) as error:
                    if attempt == _ATTEMPTS - 1:
                        raise EngineError(f"download of {digest} failed: {error}") from None
                    await asyncio.sleep(min(2**attempt, 5))
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise DigestMismatch(f"filesystem layer verification failed for digest {digest}")

    def _candidates(self) -> list[str]:
        domain = self.reference.domain
        if domain == DEFAULT_DOMAIN:
            return [*(mirror.rstrip("/") for mirror in self.mirrors), f"https://{_HUB}"]
        bare = domain.rpartition(":")[0] or domain
        local = bare in ("localhost", "[::1]") or bare.startswith("127.")
        return [f"https://{domain}", *([f"http://{domain}"] if local else [])]

    def _blob_url(self, digest: str) -> str:
        return f"{self._base}/v2/{self.reference.path}/blobs/{digest}"

    @asynccontextmanager
    async def _request(
        self, url: str, headers: dict[str, str] | None = None, *, authorize: bool = True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET; answers a 401 challenge once. Redirects are followed, without our credentials."""
        import aiohttp  # noqa: PLC0415 - see above

        if self._session is None:
            raise EngineError("no registry session")
        for attempt in (1, 2):
            own = dict(headers or {})
            if self._authorization and authorize:
                own["Authorization"] = self._authorization
            try:
                response = await self._session.get(url, headers=own)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                text = str(error) or type(error).__name__
                raise EngineError(f'Get "{url}": {text}') from None
            async with response:
                if response.status == 401 and authorize and attempt == 1:
                    challenge = response.headers.get("WWW-Authenticate", "")
                    self._authorization = await self._answer(challenge)
                    if self._authorization:
                        continue
                yield response
                return

    async def _answer(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        own = self.credentials
        basic = _basic(own.username, own.password) if own.username else ""
        if scheme.lower() != "bearer":
            return basic
        parameters = dict(_PARAMETER.findall(rest))
        realm = parameters.pop("realm", "")
        if not realm or self._session is None:
            return ""
        query = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        query.setdefault("scope", f"repository:{self.reference.path}:pull")
        if own.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": own.identity_token,
                "client_id": "docker",
            }
            request = self._session.post(realm, data=form)
        else:
            if own.username:
                query["account"] = own.username
            headers = {"Authorization": basic} if basic else {}
            request = self._session.get(realm, params=query, headers=headers)
        async with request as response:
            if response.status != 200:
                raise Unauthorized(
                    f"unauthorized: authentication required ({response.status} from {realm})"
                )
            answer = await response.json(content_type=None)
        token = answer.get("token") or answer.get("access_token") or ""
        return f"Bearer {token}" if token else ""

    async def _raise_for(self, response: aiohttp.ClientResponse, name: str) -> None:
        if response.status in (200, 206):
            return
        familiar = self.reference.familiar_name
        if response.status == 404:
            what = self.reference.familiar if name.startswith("sha256:") else f"{familiar}:{name}"
            raise NotFound(f"manifest for {what} not found: manifest unknown: manifest unknown")
        if response.status in (401, 403):
            raise NotFound(
                f"pull access denied for {familiar}, repository does not exist or may require"
                " 'docker login': denied: requested access to the resource is denied"
            )
        if response.status == 429:
            raise EngineError(
                "toomanyrequests: You have reached your pull rate limit at the registry"
            )
        text = (await response.text(errors="replace"))[:200]
        raise EngineError(f"received unexpected HTTP status: {response.status}: {text}")


async def _limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = await response.content.read(limit + 1)
    while len(data) <= limit and (more := await response.content.read(limit + 1 - len(data))):
        data += more
    if len(data) > limit:
        raise EngineError("the registry's answer is too large")
    return data


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
