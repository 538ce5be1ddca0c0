"""The gRPC clients of the Open Inference Protocol, unchanged, against a running server: `tritonclient`, and `grpcio` alone.

The server is found by `WATERSHED_SERVING_URL` and `WATERSHED_API_KEY`. To add what a client can do: a test here.
"""

import os
import pathlib
import urllib.parse
import uuid

import grpc
import numpy
import pytest
from mlflow import MlflowClient
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

LINEAR = pathlib.Path(__file__).resolve().parents[2] / "crates/runtime/fixtures/linear.onnx"
ADDRESS = urllib.parse.urlsplit(os.environ["WATERSHED_SERVING_URL"]).netloc
KEY = {"authorization": f"Bearer {os.environ['WATERSHED_API_KEY']}"}


@pytest.fixture(scope="module")
def model():
    """The name of a served model."""
    client, name = MlflowClient(), f"grpc-{uuid.uuid4().hex[:8]}"
    run = client.create_run("0")
    client.log_artifact(run.info.run_id, str(LINEAR), "model")
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias(name, "champion", "1")
    return name


@pytest.fixture(scope="module")
def client():
    with triton.InferenceServerClient(ADDRESS) as client:
        yield client


@pytest.fixture(scope="module")
def stub():
    with grpc.insecure_channel(ADDRESS) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def rows(values):
    tensor = triton.InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    return [tensor]


def test_probes_need_no_credential(client):
    assert client.is_server_live() and client.is_server_ready()


def test_models_are_described(client, model):
    assert client.get_server_metadata(headers=KEY).name == "watershed"
    told = client.get_model_metadata(model, headers=KEY)
    assert (told.platform, list(told.versions)) == ("onnx_tract", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in told.inputs] == [("x", "FP32", [-1, 2])]
    assert client.is_model_ready(model, headers=KEY)
    assert not client.is_model_ready("none", headers=KEY)


def test_raw_tensors_are_answered_as_http_answers(client, model):
    values = numpy.array([[1, 2], [4, -8]], numpy.float32)
    answer = client.infer(model, rows(values), request_id="7", outputs=[triton.InferRequestedOutput("y")], headers=KEY)
    assert answer.as_numpy("y").tolist() == [[1.0], [5.0]]
    assert (answer.get_response().id, answer.get_response().model_version) == ("7", "1")


def test_listed_tensors_come_back_in_lists(stub, model):
    contents = service_pb2.InferTensorContents(fp32_contents=[1, 2])
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 2], contents=contents)
    request = service_pb2.ModelInferRequest(model_name=model, inputs=[tensor])
    answer = stub.ModelInfer(request, metadata=tuple(KEY.items()))
    assert list(answer.outputs[0].contents.fp32_contents) == [1.0] and not answer.raw_output_contents


def test_problems_are_statuses(client, stub, model):
    good = numpy.zeros((1, 2), numpy.float32)

    def status(ask):
        with pytest.raises((triton.InferenceServerException, grpc.RpcError)) as told:
            ask()
        return told.value

    refused = status(lambda: client.infer(model, rows(good)))
    assert refused.status() == "StatusCode.UNAUTHENTICATED"
    refused = status(lambda: client.infer(model, rows(good), headers={"authorization": "Bearer wrong-key-of-length"}))
    assert refused.status() == "StatusCode.UNAUTHENTICATED"
    refused = status(lambda: client.infer("none", rows(good), headers=KEY))
    assert refused.status() == "StatusCode.NOT_FOUND"
    refused = status(lambda: client.infer(model, rows(numpy.zeros((1, 3), numpy.float32)), headers=KEY))
    assert refused.status() == "StatusCode.INVALID_ARGUMENT" and "inputs[0].shape" in refused.message()
    large = numpy.zeros((2_000_000, 2), numpy.float32)
    refused = status(lambda: client.infer(model, rows(large), headers=KEY))
    assert refused.status() == "StatusCode.RESOURCE_EXHAUSTED"
    refused = status(lambda: stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=tuple(KEY.items())))
    assert refused.code() == grpc.StatusCode.UNIMPLEMENTED


def test_many_calls_share_a_connection(client, model):
    values = [numpy.array([[number, 2]], numpy.float32) for number in range(200)]
    with grpc.insecure_channel(ADDRESS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = []
        for value in values:
            request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[value.tobytes()])
            request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
            calls.append(stub.ModelInfer.future(request, metadata=tuple(KEY.items())))
        found = [numpy.frombuffer(call.result().raw_output_contents[0], numpy.float32)[0] for call in calls]
    together = client.infer(model, rows(numpy.concatenate(values)), headers=KEY).as_numpy("y")[:, 0]
    numpy.testing.assert_allclose(found, together, rtol=1e-6)
