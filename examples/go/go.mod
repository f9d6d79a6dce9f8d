module consumer

go 1.26

require (
	github.com/aws/aws-lambda-go v1.55.1
	out_kinesis_agg v0.0.0
)

require (
	github.com/klauspost/compress v1.20.4 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace out_kinesis_agg => ../..
