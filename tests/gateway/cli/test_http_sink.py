import http.client
import json
from asyncio import to_thread
from urllib.parse import urlsplit

from tests.gateway.cli.processes import ce_gateway, read_until


def post(url, body, headers):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request("POST", parts.path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


async def test_it_prints_what_it_gets_in_every_mode_and_answers_202():
    batch = [{"specversion": "1.0", "id": str(i), "source": "/s", "type": "t"} for i in (2, 3)]
    async with ce_gateway("listen", "--serve", "127.0.0.1:0", "-n", "3", "--json") as process:
        url = (await read_until(process.stderr, "listening")).split(" at ")[1].strip()
        binary = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        headers = {**binary, "content-type": "text/plain"}
        assert await to_thread(post, url, b"hi", headers) == 202
        assert json.loads(await process.stdout.readline()) == {
            "specversion": "1.0",
            "id": "1",
            "source": "/s",
            "type": "t",
            "datacontenttype": "text/plain",
            "data": "hi",
        }
        headers = {"content-type": "application/cloudevents-batch+json"}
        assert await to_thread(post, f"{url}any/path", json.dumps(batch), headers) == 202
        ids = [json.loads(await process.stdout.readline())["id"] for _ in range(2)]
        assert ids == ["2", "3"]
        assert await process.wait() == 0


async def test_what_is_no_event_is_refused_and_told():
    async with ce_gateway("listen", "--serve", "127.0.0.1:0") as process:
        url = (await read_until(process.stderr, "listening")).split(" at ")[1].strip()
        assert await to_thread(post, url, b"hi", {"content-type": "text/plain"}) == 415
        assert "not_an_event" in await read_until(process.stderr, "rejected 1")


async def test_an_address_that_is_none_is_wrong_usage():
    async with ce_gateway("listen", "--serve", "here") as process:
        assert await process.wait() == 2
