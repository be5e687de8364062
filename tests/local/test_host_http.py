"""HTTP triggers of the host: a real host process, Microsoft's worker engine."""

import asyncio


async def test_the_function_gets_its_request(http):
    """Method, URL, route parameters, query and headers reach the function; its status is returned."""
    response = await http.put(
        "/api/items/tool/a%20b%2Fc?x=1&x=2&none=&y=%C3%A9", headers=[("X-Test", "1"), ("x-test", "2")]
    )

    assert (response.status_code, response.headers["content-type"]) == (201, "application/json")
    assert response.json() == {
        "method": "PUT",
        "url": f"{http.base_url}/api/items/tool/a%20b%2Fc?x=1&x=2&none=&y=%C3%A9",
        "route": {"kind": "tool", "number": "a b%2Fc"},
        "query": {"x": "1,2", "y": "é"},
        "header": "1,2",
    }


async def test_a_request_without_a_route_is_not_found(http):
    """As in Azure, a wrong method is a 404, too."""
    assert (await http.delete("/api/items/tool/1")).status_code == 404
    assert (await http.get("/")).status_code == 404


async def test_bodies_are_unchanged(http):
    """Any bytes reach the function and are returned, with its media type, headers and cookies."""
    body = bytes(range(256)) * 5000
    response = await http.post("/API/Files/a/b%20c.bin", content=body)

    assert (response.status_code, response.content) == (200, body)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-path"] == "a/b c.bin"
    assert response.headers["set-cookie"] == "a=b; Path=/"


async def test_a_body_without_a_length_is_dropped(http, host):
    """As in Azure; the host logs it."""

    async def chunks():
        yield b"chunk"

    assert (await http.post("/api/files/a", content=chunks())).content == b""
    await host.printed("its body is dropped")


async def test_too_large_a_body_is_rejected(host):
    """Above 100 MB the response is a 413, before the body is sent."""
    reader, writer = await asyncio.open_connection(*host.url.removeprefix("http://").split(":"))
    writer.write(b"POST /api/files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 104857601\r\n\r\n")

    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_an_exception_is_an_empty_500(http, host):
    """The caller gets no detail; the host prints the traceback."""
    response = await http.get("/api/crash?secret=abc")

    assert (response.status_code, response.content) == (500, b"")
    await host.printed("ValueError: abc")


async def test_a_string_is_a_response(http):
    """A function may return a string, and without `methods` it accepts every method."""
    response = await http.patch("/api/plain/")

    assert (response.status_code, response.text) == (200, "PATCH it is")


async def test_an_http_function_sends_to_a_queue(http, queues):
    """Its queue output is sent before its response."""
    response = await http.post("/api/queued", content=b"by HTTP")

    assert response.status_code == 202
    assert await queues.take("shared-echoed") == [b"by HTTP"]
