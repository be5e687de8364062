"""`embed`: texts become vectors in the texts' order, in as many calls as it takes, each bought once."""

from __future__ import annotations

import base64
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.embed import MAX_TEXTS, fits, halves, is_too_much
from shared.actions.embedding_codec import npy, parse_vectors, unpack
from shared.contract.embed import decode_embed
from shared.errors import InvalidJob, RequestRejected, UpstreamFacts
from tests.support.endpoint import Answer, error, reply
from tests.support.harness import Customer, World

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows_of_numbers = st.integers(1, 5).flatmap(
    lambda size: st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=1, max_size=6)
)


def packed(rows: list[list[float]]) -> list[str]:
    """Rows as they are kept."""
    found = parse_vectors({"data": [{"embedding": row} for row in rows]}, len(rows))
    assert found is not None
    return found


@given(rows_of_numbers)
def test_numpy_reads_what_is_written(rows: list[list[float]]):
    """NumPy reads the file as the same rows of 32-bit floats, whatever the shape."""
    array = np.load(io.BytesIO(npy(packed(rows))), allow_pickle=False)

    assert (array.dtype, array.shape) == (np.dtype("<f4"), (len(rows), len(rows[0])))
    assert array.flags.c_contiguous
    assert array.tolist() == rows


@given(rows_of_numbers, st.randoms(), st.booleans())
def test_vectors_stand_in_the_order_of_the_texts(rows: list[list[float]], chance: Any, as_base64: bool):
    """Vectors are put in order by their `index`, and are the same as numbers and as base64."""
    data = [
        {"index": n, "embedding": base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode() if as_base64 else row}
        for n, row in enumerate(rows)
    ]
    chance.shuffle(data)

    found = parse_vectors({"data": data}, len(rows))

    assert found is not None
    assert [unpack(row).tolist() for row in found] == rows


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"embedding": []}, {"embedding": []}],
        [{"embedding": [1.0]}, {"embedding": ["1"]}],
        [{"embedding": [1.0]}, {"embedding": [True]}],
        [{"embedding": [1.0]}, {"embedding": [10**400]}],
        [{"embedding": [1.0]}, {"embedding": "AAA"}],
        [{"embedding": [1.0]}, {"embedding": "AAAAAAA="}],
        [{"embedding": "AAAAAA=="}, {"embedding": "AADAfw=="}],
        [{"embedding": [1.0]}, {"embedding": None}],
        [{"embedding": [1.0]}, 7],
    ],
)
def test_what_is_not_a_vector_a_text_is_nothing(data: Any):
    """An answer for two texts that holds no two vectors of one length is none."""
    assert parse_vectors({"data": data}, 2) is None


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=1500), st.integers(1, 3000))
def test_halves_end_where_texts_fit(texts: list[str], most: int):
    """Halves of halves hold each text once, in order, and come to parts that fit."""

    def parts(places: range) -> list[range]:
        if fits(texts[places.start : places.stop], most):
            return [places]
        return [part for half in halves(places) for part in parts(half)]

    found = parts(range(len(texts)))

    assert list(range(len(texts))) == [place for part in found for place in part]
    assert all(0 < len(part) <= min(most, MAX_TEXTS) for part in found)


def test_texts_fit_by_their_size_too():
    """Few texts can be too much for one call; a single one is the provider's to judge."""
    assert fits(["x" * 290_000] * 2, None)
    assert not fits(["x" * 310_000] * 2, None)
    assert not fits(["語" * 110_000] * 2, None)
    assert fits(["x" * 2_000_000], None)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (400, "Too many inputs. The max number of inputs is 16.", True),
        (400, "invalid request: total number of texts must be at most 96 - received 200", True),
        (422, "batch size 200 > maximum allowed batch size 32", True),
        (400, "Invalid 'input': array too long. Expected an array with maximum length 2048.", True),
        (400, "Requested 313102 tokens, max 300000 tokens per request", True),
        (413, "Request Entity Too Large", True),
        (400, "This model's maximum context length is 8192 tokens, however you requested 9000 tokens", False),
        (400, "'$.input' is invalid.", False),
        (404, "Too many inputs", False),
    ],
)
def test_refusals_of_size_are_known(status: int, said: str, expected: bool):
    """The words in which providers refuse too large a request are known, and no others."""
    assert expected is is_too_much(RequestRejected(said, UpstreamFacts(status=status)))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"texts": []}, "`input.texts` must be a list of 1 to 2,048 items"),
        ({"texts": ["x"] * 2049}, "`input.texts` must be a list of 1 to 2,048 items"),
        ({"texts": ["x", ""]}, "`input.texts[1]` must be text that is not empty"),
        ({"texts": ["x", 3]}, "`input.texts[1]` must be a string"),
        ({"texts": "x"}, "`input.texts`"),
        ({"dimensions": 0}, "`input.dimensions`"),
        ({"format": "csv"}, "`input.format`"),
        ({"colour": 1}, "`input.colour` is not a known member"),
        ({"parameters": {"input": "x"}}, "set `input.texts` instead"),
        ({"parameters": {"model": "x"}}, "the job's own `model`"),
        ({"dimensions": 3, "parameters": {"dimensions": 4}}, "repeats `input.dimensions`"),
    ],
)
def test_wrong_input_is_refused_by_name(members: dict[str, Any], said: str):
    """What is wrong is named with its path."""
    with pytest.raises(InvalidJob) as refused:
        decode_embed(json.dumps({"texts": ["x"]} | members).encode())

    assert said in str(refused.value)


def job(texts: list[str], **members: Any) -> dict[str, Any]:
    """The members of an embed job; `members` are its input's."""
    return {"action": "embed", "input": {"texts": texts} | members}


def numbered(count: int) -> list[str]:
    """As many texts, which are numbers."""
    return [str(number) for number in range(count)]


def at_most(most: int, *, of_tokens: bool = False, size: int = 2) -> Answer:
    """Gives each numbered text the vector [number, 0.5, 0.5 …], and refuses more than `most` texts."""

    async def answer(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        if len(texts) > most:
            said = f"Requested 400000 tokens, max {most} tokens per request" if of_tokens else "Too many inputs."
            return await error(400, "invalid", said)(request)
        data = [{"index": n, "embedding": [int(text)] + [0.5] * (size - 1)} for n, text in enumerate(texts)]
        body = {"data": data[::-1], "model": "m-1", "usage": {"prompt_tokens": len(texts), "total_tokens": 9}}
        return await reply(body, headers={"x-request-id": "req-v"})(request)

    return answer


def sizes(customer: Customer) -> list[int]:
    """How many texts each of the customer's calls had."""
    return [len(received.json["input"]) for received in customer.account.received]


async def test_texts_become_vectors_in_one_call(world: World):
    """Few texts are one call, whose usage is recorded with the job; vectors stand in the texts' order."""
    customer = world.customer()
    customer.account.will_answer(at_most(10))

    result = await customer.run(**job(["2", "0", "1"], dimensions=2, parameters={"user": "u"}))

    assert result["output"] == {"vectors": 3, "dimensions": 2, "embeddings": [[2, 0.5], [0, 0.5], [1, 0.5]]}
    (received,) = customer.account.received
    assert received.path == "/openai/v1/embeddings"
    assert received.json == {"model": "gpt-4o", "input": ["2", "0", "1"], "dimensions": 2, "user": "u"}
    assert {"calls": 1, "input_tokens": 3, "output_tokens": 0}.items() <= result["usage"].items()
    (record,) = await customer.usage()
    assert (record["input_tokens"], record["answered_by"], record["reported"]) == (3, "m-1", True)
    assert not [row for row in await customer.rows() if row["RowKey"].startswith("s_")]


async def test_base64_is_decoded(world: World):
    """With `encoding_format: base64` the provider sends packed floats, and the result has the numbers."""
    customer = world.customer()
    data = [{"index": 0, "embedding": base64.b64encode(struct.pack("<3f", 0.5, -1.25, 3)).decode()}]
    customer.account.will_answer(reply({"data": data, "usage": {"prompt_tokens": 1}}))

    result = await customer.run(**job(["x"], parameters={"encoding_format": "base64"}))

    assert customer.account.received[0].json["encoding_format"] == "base64"
    assert result["output"]["embeddings"] == [[0.5, -1.25, 3.0]]


async def test_npy_is_a_blob_that_numpy_reads(world: World):
    """With `format: npy` the vectors are a file of the job's, and not in the output."""
    customer = world.customer()
    customer.account.will_answer(*[at_most(MAX_TEXTS)] * 9)

    result = await customer.run(job_id="file", **job(numbered(1000), format="npy"))

    output = result["output"]
    assert (output["vectors"], output["dimensions"], set(output)) == (1000, 2, {"vectors", "dimensions", "blob"})
    assert output["blob"]["name"] == f"{customer.name}/file/embeddings.npy"
    client = world.blobs.get_blob_client(output["blob"]["container"], output["blob"]["name"])
    array = np.load(io.BytesIO(await (await client.download_blob()).readall()))
    assert array.tolist() == [[number, 0.5] for number in range(1000)]


async def test_many_texts_go_in_several_calls(world: World):
    """More texts than one call takes go in several, each a step with its own usage; the result is a blob."""
    customer = world.customer()
    customer.account.will_answer(*[at_most(MAX_TEXTS, size=8)] * 9)

    result = await customer.run(job_id="many", **job(numbered(2048)))

    client = world.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    output = json.loads(await (await client.download_blob()).readall())["output"]
    assert "output" not in result
    assert [row[0] for row in output["embeddings"]] == list(range(2048))
    assert sizes(customer) == [512] * 4
    assert (result["usage"]["calls"], result["usage"]["input_tokens"]) == (4, 2048)
    assert len(await customer.usage()) == 4


async def test_calls_are_halved_until_the_provider_takes_them(world: World):
    """A refusal of so many texts halves the calls; the next job knows how many are taken."""
    customer = world.customer(default_model="takes-96")
    customer.account.will_answer(*[at_most(96)] * 99)

    first = await customer.run(**job(numbered(400)))
    tries = sizes(customer)
    second = await customer.run(**job(numbered(130)))

    assert [row[0] for row in first["output"]["embeddings"]] == list(range(400))
    assert (sorted(tries), first["usage"]["calls"]) == ([50] * 8 + [100, 200, 400], 8)
    assert sizes(customer)[len(tries) :] == [33, 32, 33, 32]
    assert second["status"] == "succeeded"


async def test_too_many_tokens_halve_one_job_only(world: World):
    """A refusal of so many tokens halves the calls, but says nothing of the next job's texts."""
    customer = world.customer(default_model="few-tokens")
    customer.account.will_answer(at_most(10, of_tokens=True), *[at_most(10)] * 2, at_most(100))

    await customer.run(**job(numbered(20)))
    await customer.run(**job(numbered(20)))

    assert sizes(customer) == [20, 10, 10, 20]


async def test_a_later_run_asks_only_for_what_is_missing(world: World):
    """A job that has to wait keeps the calls that were answered, whatever is learned before its next run."""
    customer = world.customer(default_model="resumed")
    answers = [at_most(MAX_TEXTS), error(429, retry_after="3600"), *[at_most(MAX_TEXTS)] * 9]
    customer.account.will_answer(*answers)
    texts = numbered(1000)

    assert await customer.deliver(job_id="resumed", **job(texts)) is None
    asked = len(customer.account.received)
    capabilities = world.services.capabilities
    capabilities.learn_batch_limit(300, f"{world.endpoint.url}/openai/v1", "resumed", "embeddings")
    result = await customer.run(job_id="resumed", **job(texts))

    assert [row[0] for row in result["output"]["embeddings"]] == list(range(1000))
    assert (asked, sizes(customer)[asked:]) == (2, [250, 250])
    assert (result["usage"]["calls"], result["usage"]["input_tokens"]) == (3, 1000)


async def test_text_that_is_refused_fails_the_job_and_is_found(world: World):
    """A text that the model refuses fails the job; what was answered beside it stays billed."""
    customer = world.customer()

    async def answer(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        refuse = "600" in texts
        return await (error(400, "invalid", "maximum context length is 8192") if refuse else at_most(512))(request)

    customer.account.will_answer(*[answer] * 9)

    result = await customer.run(**job(numbered(1000)))

    assert (result["status"], result["error"]["code"]) == ("failed", "request_rejected")
    assert "Of the texts 500 to 999:" in result["error"]["message"]
    assert (result["usage"]["calls"], "output" in result) == (1, False)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": [{"embedding": [1]}, {"embedding": [1]}]}'])
async def test_answer_that_is_no_vector_is_failed_and_counted(world: World, body: bytes):
    """A 2xx answer without a vector a text fails the job and leaves a record that a call was made."""
    customer = world.customer()
    customer.account.will_answer(reply(body))

    result = await customer.run(**job(["x"]))

    assert (result["status"], result["error"]["code"]) == ("failed", "provider_unavailable")
    (record,) = await customer.usage()
    assert (record["reported"], record["calls"]) == (False, 1)


async def test_part_that_is_no_vector_fails_the_job(world: World):
    """One call of several that answers nonsense fails the job, and both were paid for."""
    customer = world.customer()
    customer.account.will_answer(reply(b"{}"), at_most(512))

    result = await customer.run(**job(numbered(600)))

    assert (result["status"], result["error"]["code"]) == ("failed", "provider_unavailable")
    assert (result["usage"]["calls"], len(await customer.usage())) == (2, 2)


async def test_vectors_of_different_lengths_are_no_answer(world: World):
    """Calls that answer with vectors of different lengths do not make one table of them."""
    customer = world.customer()
    long = {"data": [{"index": n, "embedding": [1, 2, 3]} for n in range(300)]}
    customer.account.will_answer(reply(long), at_most(512))

    result = await customer.run(**job(numbered(600)))

    assert result["error"]["code"] == "provider_unavailable"
    assert "different lengths" in result["error"]["message"]


async def test_encoding_is_left_out_where_it_is_refused(world: World):
    """A provider that takes no `encoding_format` is asked without it, and the result says so."""
    customer = world.customer(default_model="no-encoding")
    refusal = {"code": "unknown_parameter", "message": "Unknown parameter: 'encoding_format'."}
    customer.account.will_answer(reply({"error": refusal | {"param": "encoding_format"}}, status=400), at_most(9))

    result = await customer.run(**job(["4"], parameters={"encoding_format": "base64"}))

    assert (result["output"]["embeddings"], result["output"]["adapted"]) == (
        [[4, 0.5]],
        ["encoding_format was left out"],
    )


async def test_foundry_models_route_serves_too(world: World):
    """The models route takes embeddings, with its version and parameters passed through."""
    customer = world.customer(endpoint=f"{world.endpoint.url}/models", provider="foundry")

    result = await customer.run(**job(["x"]))

    (received,) = customer.account.received
    assert result["output"]["embeddings"] == [[0, 0.5, -1.25]]
    assert (received.path, received.headers["extra-parameters"]) == ("/models/embeddings", "pass-through")
