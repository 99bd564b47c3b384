def handle(event, context):
    print(f"greeting for {context.aws_request_id}")
    return {"hello": event.get("name", "world")}
